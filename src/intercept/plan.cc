// Makes the plan out of values: the rules, the routes, and the nft table or the iptables rules (whose text is nft_table.cc's
// and xtables_rules.cc's). Pure; called by the command line, the service and the public Interception. Never looks at the kernel.
#include "intercept/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "intercept/nft_table.h"
#include "intercept/xtables_rules.h"

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

  std::vector<RuleSpec> rules = {landing, spare_reverse_lookups, deliver};
  if (ownership.local) {
    // A mark of its own: the route of a packet that a program here sends is looked up with iif lo too, and has to be found.
    RuleSpec deliver_local = deliver;
    deliver_local.mark = ownership.mark.local_mark();
    rules.push_back(deliver_local);
  }
  return rules;
}

Plan make_plan(const PlanInputs& inputs) {
  Plan plan;
  plan.inputs = inputs;
  plan.table_name = table_name_of(inputs.ownership.name);
  const bool with_nft = inputs.ownership.backend == Backend::nftables;
  if (with_nft) {
    plan.nft_table = render_nft_table(inputs);
    plan.companions = render_companion_tables(inputs);
  }
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family)) continue;
    if (is_iptables(inputs.ownership.backend)) plan.xtables.push_back(render_xtables(inputs, family));
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

std::vector<NftTableName> tables_of(const Plan& plan) {
  if (plan.inputs.ownership.backend != Backend::nftables) return {};
  std::vector<NftTableName> tables = {{.family = "inet", .name = plan.table_name}};
  for (const CompanionTable& companion : plan.companions) tables.push_back(companion.name);
  return tables;
}

bool owns(const Ownership& ownership, const RuleSpec& rule) {
  const auto rules = policy_rules(rule.family, ownership);
  return std::ranges::find(rules, rule) != rules.end();
}

bool owns(const Ownership& ownership, const RouteSpec& route) {
  return route.table == ownership.table;
}

std::vector<XtablesRuleset> draining_xtables(const Plan& plan) {
  std::vector<XtablesRuleset> rules;
  for (const XtablesRuleset& installed : plan.xtables)
    rules.push_back(render_draining_xtables(plan.inputs, installed.family));
  return rules;
}

std::string render_restore(const XtablesRuleset& rules) {
  std::string text;
  for (const XtablesTable& table : rules.tables) {
    text += fmt::format("*{}\n", table.name);
    for (const std::string& chain : table.chains) text += fmt::format(":{} - [0:0]\n", chain);
    for (const std::string& rule : table.rules) text += fmt::format("-A {}\n", rule);
    for (const XtablesJump& jump : table.jumps) text += fmt::format("-I {} 1 -j {}\n", jump.from, jump.to);
    text += "COMMIT\n";
  }
  return text;
}

std::string xtables_program(Backend backend, Family family, std::string_view verb) {
  return fmt::format("{}-{}-{}", family == Family::ipv4 ? "iptables" : "ip6tables",
                     backend == Backend::iptables_legacy ? "legacy" : "nft", verb);
}

std::uint32_t answer_mark(const Ownership& ownership) {
  const bool has_to_tell = is_iptables(ownership.backend) && ownership.keeps_udp_port;
  return has_to_tell ? ownership.mark.mask : ownership.mark.bypass;
}

std::string render_deletion(const std::vector<NftTableName>& tables) {
  std::string text;
  // The first line makes the second one succeed whether or not there is a table; nft sends all of it as one
  // transaction.
  for (const NftTableName& table : tables) text += fmt::format("table {0}\ndelete table {0}\n", table.to_string());
  return text;
}

std::string render_nft_replacement(const Plan& plan) {
  std::string text = render_deletion(tables_of(plan));
  text += plan.nft_table;
  for (const CompanionTable& companion : plan.companions) text += companion.definition;
  return text;
}

}  // namespace limpid
