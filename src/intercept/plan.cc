// Makes the plan out of values: the rules, the routes, and the nft table (whose text is nft_table.cc's). Pure; called
// by the command line, the service and the public Interception. Never looks at the kernel.
#include "intercept/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "intercept/nft_table.h"

namespace limpid {
namespace {

constexpr std::array kFamilies = {Family::ipv4, Family::ipv6};

bool in_scope(const Scope& scope, Family family) {
  return family == Family::ipv4 ? scope.ipv4 : scope.ipv6;
}

}  // namespace

// The first keeps reverse look-ups out of our table: source validation (src_valid_mark=1, in
// fib_validate_source, net/ipv4/fib_frontend.c), firewalld's IPv6_rpfilter (`fib saddr . mark . iif oif`) and replies
// with a reflected mark (fwmark_reflect=1) all ask with iif lo and the packet's mark, and would be told that every
// address is local. The rule that `goto` leads to comes first, or the jump would be unresolved for a moment.
std::vector<RuleSpec> policy_rules(Family family, const Ownership& ownership) {
  const std::uint32_t first = ownership.priority.value;
  RuleSpec landing;
  landing.family = family;
  landing.priority = {first + 2};
  landing.action = RuleAction::nop;
  landing.protocol = kRouteProtocol;

  RuleSpec deliver = landing;
  deliver.priority = {first + 1};
  deliver.mark = ownership.mark.intercept_mark();
  deliver.action = RuleAction::lookup;
  deliver.table = ownership.table;

  RuleSpec spare_reverse_lookups = landing;
  spare_reverse_lookups.priority = {first};
  spare_reverse_lookups.mark = ownership.mark.intercept_mark();
  spare_reverse_lookups.input_interface = "lo";
  spare_reverse_lookups.action = RuleAction::jump;
  spare_reverse_lookups.jump_target = landing.priority;

  return {landing, spare_reverse_lookups, deliver};
}

Plan make_plan(const PlanInputs& inputs) {
  Plan plan;
  plan.inputs = inputs;
  plan.table_name = table_name_of(inputs.ownership.name);
  plan.nft_table = render_nft_table(inputs);
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family)) continue;
    plan.routes.push_back({.destination = Prefix::everything(family),
                           .table = inputs.ownership.table,
                           .local = true,
                           .device = "lo",
                           .gateway = std::nullopt,
                           .protocol = kRouteProtocol});
    std::ranges::copy(policy_rules(family, inputs.ownership), std::back_inserter(plan.rules));
  }
  plan.sysctls = inputs.sysctls;
  return plan;
}

std::string render_nft_replacement(const Plan& plan) {
  // The first line makes the second one succeed whether or not there is a table; nft sends all of it as one
  // transaction.
  return fmt::format("table inet {0}\ndelete table inet {0}\n{1}", plan.table_name, plan.nft_table);
}

}  // namespace limpid
