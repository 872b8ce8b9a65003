// Which numbers are chosen beside which neighbours.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "intercept/survey.h"

namespace limpid {
namespace {

constexpr std::uint32_t kWhole = 0xffffffff;

RuleSpec rule(std::uint32_t priority, std::uint32_t table, std::uint32_t mark = 0, std::uint32_t mask = 0,
              std::uint8_t protocol = 0) {
  RuleSpec spec;
  spec.priority = {priority};
  spec.table = {table};
  if (mask != 0) spec.mark = Mark{.value = mark, .mask = mask};
  spec.protocol = protocol;
  return spec;
}

Survey fresh_host() {
  Survey survey;
  survey.rules = {rule(0, 255), rule(32766, 254), rule(32767, 253)};
  survey.named_tables = {0, 253, 254, 255};
  survey.forwarding_ipv4 = survey.forwarding_ipv6 = true;
  return survey;
}

InterceptionOptions options() {
  InterceptionOptions chosen;
  chosen.scope.tcp.insert({Port{80}, Port{80}});
  chosen.listener = {1080};
  return chosen;
}

Numbers chosen_beside(const Survey& survey, const InterceptionOptions& wanted = options()) {
  const auto numbers = choose_numbers(survey, wanted);
  EXPECT_TRUE(numbers) << (numbers ? "" : numbers.error().message());
  return numbers.value_or(Numbers{});
}

FoundInstallation installed(const std::string& name) {
  return {.name = name,
          .ownership = {.name = name,
                        .keeper = Keeper::process,
                        .mark = {.mask = 0x03000000, .intercept = 0x01000000, .bypass = 0x02000000},
                        .table = {7676},
                        .priority = {100},
                        .listener = {1080},
                        .sysctls = {}}};
}

/// The rules and routes of installed().
void add_its_routing(Survey& survey) {
  for (const RuleSpec& rule : policy_rules(Family::ipv4, installed("any").ownership)) survey.rules.push_back(rule);
  RouteSpec route;
  route.table = {7676};
  route.local = true;
  route.device = "lo";
  route.protocol = kRouteProtocol;
  survey.routes.push_back(route);
}

TEST(ChooseNumbers, takes_the_preferred_ones_on_a_fresh_host) {
  const Numbers numbers = chosen_beside(fresh_host());
  EXPECT_EQ(numbers.mark, (MarkField{.mask = 0x03000000, .intercept = 0x01000000, .bypass = 0x02000000}));
  EXPECT_EQ(numbers.table, TableId{7676});
  EXPECT_EQ(numbers.priority, RulePriority{100});
}

TEST(ChooseNumbers, keeps_clear_of_bits_that_a_mask_claims) {
  Survey survey = fresh_host();
  survey.rules.push_back(rule(5210, 52, 0x01000000, 0xff000000));
  EXPECT_EQ(chosen_beside(survey).mark.mask, 0x00003000U);
  survey.rules.back().family = Family::ipv6;
  EXPECT_EQ(chosen_beside(survey).mark.mask, 0x00003000U) << "IPv6's rules count as well";
}

TEST(ChooseNumbers, a_rule_for_a_whole_mark_is_in_the_way_only_with_that_number) {
  Survey survey = fresh_host();
  survey.rules.push_back(rule(200, 100, 1, kWhole));
  EXPECT_EQ(chosen_beside(survey).mark.mask, 0x03000000U);
  survey.rules.push_back(rule(201, 100, 0x01000000, kWhole));
  EXPECT_EQ(chosen_beside(survey).mark.mask, 0x0c000000U);
}

TEST(ChooseNumbers, leaves_alone_what_well_known_programs_use) {
  for (const std::uint32_t used : {0x00ff0000U, 0x0000c000U, 0x00000f00U, 0x00003f00U}) {
    EXPECT_EQ(chosen_beside(fresh_host()).mark.mask & used, 0U);
  }
  Survey survey = fresh_host();
  survey.rules.push_back(rule(90, 1, 0x10000, 0xffff0000));  // Calico's whole range
  const std::uint32_t mask = chosen_beside(survey).mark.mask;
  EXPECT_EQ(mask & 0xffff0000U, 0U);
  EXPECT_EQ(mask & 0x0000cf00U, 0U) << "nor Kubernetes' and Cilium's";
}

TEST(ChooseNumbers, says_so_when_no_bit_is_free) {
  Survey survey = fresh_host();
  survey.rules.push_back(rule(90, 1, 1, 0xfffffffe | 1U) /* the whole mark as a value */);
  survey.rules.push_back(rule(91, 1, 0, 0x7fffffff));
  survey.rules.push_back(rule(92, 1, 0x80000000, 0x80000000));
  const auto numbers = choose_numbers(survey, options());
  ASSERT_FALSE(numbers);
  EXPECT_NE(numbers.error().remedy.find("--mark"), std::string::npos);
}

TEST(ChooseNumbers, takes_a_table_that_nobody_uses_names_or_leads_to) {
  Survey survey = fresh_host();
  RouteSpec route;
  route.table = {7676};
  survey.routes = {route};
  survey.named_tables.push_back(7677);
  survey.rules.push_back(rule(300, 7678));
  EXPECT_EQ(chosen_beside(survey).table, TableId{7679});
}

TEST(ChooseNumbers, comes_before_every_other_rule) {
  Survey survey = fresh_host();
  survey.rules.push_back(rule(101, 5));
  EXPECT_EQ(chosen_beside(survey).priority, RulePriority{98});
  survey.rules.push_back(rule(9, 5));  // Cilium's
  EXPECT_EQ(chosen_beside(survey).priority, RulePriority{6});
  survey.rules.push_back(rule(4, 5));
  EXPECT_EQ(chosen_beside(survey).priority, RulePriority{1});
  survey.rules.push_back(rule(3, 5));
  EXPECT_EQ(chosen_beside(survey).priority, RulePriority{5}) << "no room before: the first gap of three";
}

TEST(ChooseNumbers, keeps_the_numbers_of_a_left_over_of_the_same_name) {
  Survey survey = fresh_host();
  survey.installations = {installed("limpid")};
  add_its_routing(survey);
  const Numbers numbers = chosen_beside(survey);
  EXPECT_EQ(numbers.mark.mask, 0x03000000U);
  EXPECT_EQ(numbers.table, TableId{7676});
  EXPECT_EQ(numbers.priority, RulePriority{100});
}

TEST(ChooseNumbers, given_numbers_win_over_a_left_overs) {
  Survey survey = fresh_host();
  survey.installations = {installed("limpid")};
  add_its_routing(survey);
  InterceptionOptions wanted = options();
  wanted.priority = RulePriority{101};  // overlaps the left-over's own rules, which go away
  wanted.table = TableId{9000};
  const Numbers numbers = chosen_beside(survey, wanted);
  EXPECT_EQ(numbers.table, TableId{9000});
  EXPECT_EQ(numbers.priority, RulePriority{101});
}

TEST(ChooseNumbers, keeps_clear_of_another_instance) {
  Survey survey = fresh_host();
  survey.installations = {installed("squid")};
  add_its_routing(survey);
  const Numbers numbers = chosen_beside(survey);
  EXPECT_EQ(numbers.mark.mask, 0x0c000000U);
  EXPECT_EQ(numbers.table, TableId{7677});
  EXPECT_EQ(numbers.priority, RulePriority{97});
}

TEST(ChooseNumbers, what_a_crash_left_without_a_table_is_not_in_the_way) {
  Survey survey = fresh_host();
  add_its_routing(survey);
  EXPECT_EQ(chosen_beside(survey).table, TableId{7676});
  EXPECT_EQ(chosen_beside(survey).priority, RulePriority{100});
}

TEST(ChooseNumbers, a_busy_number_names_its_user_and_a_remedy) {
  Survey survey = fresh_host();
  survey.rules.push_back(rule(150, 5, 0x1, 0x3));
  RouteSpec route;
  route.table = {42};
  route.device = "eth7";
  survey.routes = {route};

  InterceptionOptions wanted = options();
  wanted.mark = Mark{.value = 0x2, .mask = 0x6};
  auto numbers = choose_numbers(survey, wanted);
  ASSERT_FALSE(numbers);
  EXPECT_NE(numbers.error().message().find("ip -4 rule priority 150"), std::string::npos) << numbers.error().message();
  EXPECT_FALSE(numbers.error().remedy.empty());

  for (const std::uint32_t table : {42U, 5U, 254U}) {
    wanted = options();
    wanted.table = TableId{table};
    numbers = choose_numbers(survey, wanted);
    ASSERT_FALSE(numbers) << table;
    EXPECT_FALSE(numbers.error().remedy.empty());
  }
  for (const std::uint32_t priority : {0U, 148U, 149U, 150U, 32764U, 40000U}) {
    wanted = options();
    wanted.priority = RulePriority{priority};
    numbers = choose_numbers(survey, wanted);
    ASSERT_FALSE(numbers) << priority;
    EXPECT_FALSE(numbers.error().remedy.empty());
  }
}

TEST(PrepareInputs, leaves_out_ipv6_where_there_is_none) {
  Survey survey = fresh_host();
  survey.ipv6_available = false;
  const auto inputs = prepare_inputs(survey, options(), Keeper::process, false);
  ASSERT_TRUE(inputs);
  EXPECT_FALSE(inputs->scope.ipv6);
  InterceptionOptions only_ipv6 = options();
  only_ipv6.scope.ipv4 = false;
  const auto nothing = prepare_inputs(survey, only_ipv6, Keeper::process, false);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().kind, ErrorKind::unsupported);
}

TEST(PrepareInputs, leaves_out_a_family_that_the_networks_exclude) {
  InterceptionOptions wanted = options();
  wanted.scope.to_prefixes = {*Prefix::parse("10.0.0.0/8")};
  const auto inputs = prepare_inputs(fresh_host(), wanted, Keeper::process, false);
  ASSERT_TRUE(inputs);
  EXPECT_TRUE(inputs->scope.ipv4);
  EXPECT_FALSE(inputs->scope.ipv6);
  wanted.scope.from_prefixes = {*Prefix::parse("2001:db8::/32")};
  const auto nothing = prepare_inputs(fresh_host(), wanted, Keeper::process, false);
  ASSERT_FALSE(nothing) << "nothing can match both";
  EXPECT_EQ(nothing.error().kind, ErrorKind::usage);
}

TEST(PrepareInputs, switches_forwarding_on_only_where_it_is_off_and_asked_for) {
  Survey survey = fresh_host();
  survey.forwarding_ipv6 = false;
  EXPECT_TRUE(prepare_inputs(survey, options(), Keeper::process, false)->sysctls.empty());
  const auto inputs = prepare_inputs(survey, options(), Keeper::process, true);
  ASSERT_TRUE(inputs);
  EXPECT_EQ(inputs->ownership.sysctls, "6");
  ASSERT_EQ(inputs->sysctls.size(), 1U);
  EXPECT_EQ(inputs->sysctls.front().key, kForwardingIpv6);
}

TEST(PrepareInputs, keeps_a_left_overs_duty_to_put_forwarding_back) {
  Survey survey = fresh_host();
  survey.installations = {installed("limpid")};
  survey.installations.front().ownership.sysctls = "4";
  const auto inputs = prepare_inputs(survey, options(), Keeper::process, false);
  ASSERT_TRUE(inputs);
  EXPECT_EQ(inputs->ownership.sysctls, "4");
  ASSERT_EQ(inputs->sysctls.size(), 1U);
  EXPECT_EQ(inputs->sysctls.front().previous, "0");
}

TEST(PrepareInputs, never_replaces_somebody_elses_table) {
  Survey survey = fresh_host();
  survey.foreign_tables = {{.family = "inet", .name = "limpid"}};
  EXPECT_FALSE(prepare_inputs(survey, options(), Keeper::process, false));
}

TEST(PrepareInputs, lets_only_one_instance_take_this_hosts_own_traffic) {
  Survey survey = fresh_host();
  auto wanted = options();
  wanted.scope.local = LocalScope{};
  const auto first = prepare_inputs(survey, wanted, Keeper::process, false);
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->ownership.local);
  survey.installations = {{.name = "other", .ownership = first->ownership}};
  const auto refused = prepare_inputs(survey, wanted, Keeper::process, false);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("other"), std::string::npos);
  survey.installations.front().name = wanted.name;
  EXPECT_TRUE(prepare_inputs(survey, wanted, Keeper::process, false)) << "its own left-over";
}

TEST(PrepareInputs, keeps_no_source_port_of_this_hosts_programs) {
  auto wanted = options();
  wanted.scope.local = LocalScope{};
  wanted.keeps_source_port = true;
  EXPECT_FALSE(prepare_inputs(fresh_host(), wanted, Keeper::process, false));
}

TEST(PrepareInputs, does_not_keep_out_of_conntrack_what_a_proxy_asks_it_about) {
  auto wanted = options();
  wanted.needs_conntrack = true;
  const auto prepared = prepare_inputs(fresh_host(), wanted, Keeper::process, false);
  ASSERT_TRUE(prepared);
  EXPECT_TRUE(prepared->needs_conntrack);
  wanted.keeps_source_port = true;
  EXPECT_FALSE(prepare_inputs(fresh_host(), wanted, Keeper::process, false));
}

TEST(PrepareInputs, refuses_a_scope_of_nothing) {
  auto wanted = options();
  wanted.scope.forwarded = false;
  EXPECT_FALSE(prepare_inputs(fresh_host(), wanted, Keeper::process, false));
}

TEST(ScopeWarnings, name_missing_interfaces_and_forwarding_that_is_off) {
  Survey survey = fresh_host();
  survey.links = {LinkInfo{.index = 1, .name = "lo", .up = true, .mtu = 65536}};
  Scope scope;
  scope.from_interfaces = {"lo", "eht0"};
  auto warnings = scope_warnings(survey, scope, false);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings.front().find("eht0"), std::string::npos);
  survey.forwarding_ipv4 = false;
  scope.from_interfaces.clear();
  EXPECT_EQ(scope_warnings(survey, scope, false).size(), 1U);
  EXPECT_TRUE(scope_warnings(survey, scope, true).empty());
}

TEST(FailClosedWarnings, name_the_ports_that_clients_choose) {
  InterceptionOptions wanted = options();
  wanted.fail = FailMode::closed;
  EXPECT_TRUE(fail_closed_warnings(wanted).empty());
  wanted.scope.tcp = PortSet::parse("all").value();
  EXPECT_EQ(fail_closed_warnings(wanted).size(), 1U);
  wanted.fail = FailMode::open;
  EXPECT_TRUE(fail_closed_warnings(wanted).empty());
}

TEST(PrecedenceWarnings, name_a_rule_that_would_take_our_packets) {
  Survey survey = fresh_host();
  const Numbers numbers{
      .mark = {.mask = 0x3000000, .intercept = 0x1000000, .bypass = 0x2000000}, .table = {7676}, .priority = {100}};
  survey.rules.push_back(rule(150, 254, 0, 0));
  survey.rules.push_back(rule(50, 5, 0x1, 0x3));  // for other marks
  EXPECT_TRUE(precedence_warnings(survey, numbers).empty());
  RuleSpec before = rule(50, 254, 0, 0);
  before.mark.reset();
  survey.rules.push_back(before);
  ASSERT_EQ(precedence_warnings(survey, numbers).size(), 1U);
  EXPECT_NE(precedence_warnings(survey, numbers)[0].find("priority 50"), std::string::npos);
}

}  // namespace
}  // namespace limpid
