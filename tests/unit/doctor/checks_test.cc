// The pure checks: facts in, findings out. What the facts look like on a real kernel, and that the remedies mend, is
// tests/netns/test_doctor_problems.py's.
#include "doctor/checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "doctor/apply_command.h"
#include "doctor/doctor.h"
#include "doctor/mend.h"
#include "doctor/report.h"

namespace limpid::doctor {
namespace {

const Finding* find(const Findings& findings, std::string_view id, Severity severity) {
  const auto found =
      std::ranges::find_if(findings, [&](const Finding& f) { return f.id == id && f.severity == severity; });
  return found == findings.end() ? nullptr : &*found;
}

Judged judged() {
  Judged made;
  made.ownership.name = "limpid";
  made.ownership.keeper = Keeper::permanent;
  made.ownership.mark = {.mask = 0x3000000, .intercept = 0x1000000, .bypass = 0x2000000};
  made.ownership.table = TableId{7676};
  made.ownership.priority = RulePriority{100};
  made.ownership.listener = Port{3129};
  made.scope.tcp = PortSet::parse("80").value();
  made.installed = true;
  return made;
}

Interface interface(int index, std::string name, std::uint32_t mtu = 1500) {
  Interface made;
  made.link.index = index;
  made.link.name = std::move(name);
  made.link.up = true;
  made.link.mtu = mtu;
  made.has_address = true;
  return made;
}

/// A host on which nothing is wrong: one installation, two interfaces, a transparent listener for each family.
Facts healthy() {
  Facts facts;
  facts.may_change_network = true;
  facts.ruleset = Ruleset{};
  facts.survey.forwarding_ipv4 = true;
  facts.survey.forwarding_ipv6 = true;
  facts.judged = {judged()};
  const Ownership& owner = facts.judged.front().ownership;
  facts.survey.installations = {{.name = owner.name, .ownership = owner}};
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const RuleSpec& rule : policy_rules(family, owner)) facts.survey.rules.push_back(rule);
    facts.survey.routes.push_back({.destination = Prefix::everything(family),
                                   .table = owner.table,
                                   .local = true,
                                   .device = "lo",
                                   .gateway = std::nullopt,
                                   .protocol = kRouteProtocol});
    ServerSocket listener;
    listener.local = {.address = IpAddress::loopback(family), .port = owner.listener};
    listener.transparent = true;
    facts.tcp_listeners.push_back(listener);
  }
  facts.interfaces = {interface(1, "lo", 65536), interface(2, "lan"), interface(3, "wan")};
  facts.descriptors = {.used = 20000, .most = 1024};
  facts.available_memory_kib = 1 << 20;
  return facts;
}

Findings check_all(const Facts& facts) {
  Findings findings = check_installation(facts);
  append(findings, check_listener(facts));
  append(findings, check_routing(facts));
  append(findings, check_sysctls(facts));
  append(findings, check_firewall(facts));
  append(findings, check_limits(facts));
  return findings;
}

std::string lines_of(const Finding& finding) {
  std::string text;
  for (const std::string& line : finding.remedy.lines()) text += line + '\n';
  return text;
}

TEST(Checks, nothing_is_wrong_with_a_healthy_host) {
  const Findings findings = check_all(healthy());
  EXPECT_EQ(count(findings, Severity::failure), 0U) << render_text(findings, {});
  EXPECT_EQ(count(findings, Severity::warning), 0U) << render_text(findings, {});
  for (const Finding& finding : findings) EXPECT_TRUE(is_known(finding.id)) << finding.id;
}

TEST(Checks, a_missing_rule_is_named_and_added_again) {
  Facts facts = healthy();
  std::erase_if(facts.survey.rules,
                [](const RuleSpec& r) { return r.family == Family::ipv6 && r.priority.value == 101; });
  const Findings findings = check_installation(facts);
  const Finding* missing = find(findings, "rules-missing", Severity::failure);
  ASSERT_NE(missing, nullptr);
  EXPECT_EQ(lines_of(*missing), "ip -6 rule add priority 101 fwmark 0x1000000/0x3000000 protocol 76 lookup 7676\n");
  EXPECT_TRUE(missing->remedy.safe);
}

TEST(Checks, loopback_comes_before_the_routes_through_it) {
  Facts facts = healthy();
  facts.interfaces[0].link.up = false;
  std::erase_if(facts.survey.routes, [](const RouteSpec& r) { return r.destination.family() == Family::ipv6; });
  std::erase_if(facts.survey.rules,
                [](const RuleSpec& r) { return r.family == Family::ipv4 && r.priority.value == 101; });
  Findings findings = check_installation(facts);
  append(findings, check_sysctls(facts));
  const auto commands = safe_commands(findings);
  const Command up = {"ip", "link", "set", "lo", "up"};
  ASSERT_EQ(commands.size(), 3U);
  EXPECT_EQ(commands.front(), up);
}

TEST(Checks, rules_without_a_table_are_orphans) {
  Facts facts = healthy();
  facts.survey.installations.clear();
  facts.judged.clear();
  const Findings findings = check_installation(facts);
  const Finding* orphans = find(findings, "orphans", Severity::warning);
  ASSERT_NE(orphans, nullptr);
  EXPECT_EQ(orphans->remedy.commands.size(), 8U);
}

TEST(Checks, cut_through_programs_that_outlived_their_process_are_named_whatever_else_is_left) {
  Facts facts = healthy();
  facts.judged.clear();
  facts.abandoned_cut_through = {"limpid", "guests"};
  const Findings findings = check_installation(facts);
  const Finding* found = find(findings, "left-over", Severity::warning);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(lines_of(*found), "limpid rules remove\n");
  EXPECT_EQ(lines_of(*(found + 1)), "limpid rules remove --name guests\n");
}

TEST(Checks, without_privileges_nothing_installed_is_called_ok) {
  Facts facts = healthy();
  facts.may_change_network = false;
  const Findings findings = check_installation(facts);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings.front().severity, Severity::skipped);
  EXPECT_TRUE(is_incomplete(findings));
}

TEST(Checks, the_larger_of_two_reverse_path_filters_counts) {
  for (const auto& [all, own, strict] :
       {std::tuple{1, 0, true}, {0, 1, true}, {1, 2, false}, {2, 1, false}, {0, 0, false}}) {
    Facts facts = healthy();
    facts.reverse_path_drops = 5;
    facts.interfaces[1].rp_filter = {.all = all, .own = own};
    const Findings findings = check_sysctls(facts);
    EXPECT_EQ(find(findings, "rp-filter", Severity::warning) != nullptr, strict) << all << own;
  }
}

TEST(Checks, a_strict_filter_that_drops_just_now_is_a_failure) {
  Facts facts = healthy();
  facts.interfaces[1].rp_filter = {.all = 1, .own = 0};
  EXPECT_NE(find(check_sysctls(facts), "rp-filter", Severity::ok), nullptr);
  facts.reverse_path_drops = 1;
  facts.reverse_path_drops_rise = true;
  const Findings findings = check_sysctls(facts);
  const Finding* found = find(findings, "rp-filter", Severity::failure);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(lines_of(*found), "sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.lan.rp_filter=2\n");
}

TEST(Checks, interfaces_out_of_scope_do_not_matter) {
  Facts facts = healthy();
  facts.judged.front().scope.from_interfaces = {"wan"};
  facts.interfaces[1].src_valid_mark.own = 1;
  std::erase_if(facts.survey.rules, [](const RuleSpec& r) { return r.priority.value == 100; });
  EXPECT_EQ(find(check_sysctls(facts), "src-valid-mark", Severity::failure), nullptr);
  facts.judged.front().scope.from_interfaces = {"lan"};
  EXPECT_NE(find(check_sysctls(facts), "src-valid-mark", Severity::failure), nullptr);
}

TEST(Checks, an_interface_in_scope_that_does_not_exist_is_named) {
  Facts facts = healthy();
  facts.judged.front().scope.from_interfaces = {"lan"};
  EXPECT_EQ(find(check_routing(facts), "interface-missing", Severity::warning), nullptr);
  facts.judged.front().scope.from_interfaces = {"lan", "lann"};
  facts.judged.front().installed = false;  // a plan is judged alike
  const Findings findings = check_routing(facts);
  const Finding* found = find(findings, "interface-missing", Severity::warning);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->subject, "lann");
  EXPECT_TRUE(is_known(found->id));
}

TEST(Checks, the_rule_iif_lo_takes_care_of_src_valid_mark) {
  Facts facts = healthy();
  facts.interfaces[1].src_valid_mark.all = 1;
  EXPECT_NE(find(check_sysctls(facts), "src-valid-mark", Severity::ok), nullptr);
  for (RuleSpec& rule : facts.survey.rules) {
    if (rule.action == RuleAction::jump) rule.jump_target.value = 90;  // back before the rule that it is to skip
  }
  EXPECT_NE(find(check_sysctls(facts), "src-valid-mark", Severity::failure), nullptr);
}

TEST(Checks, a_listener_without_the_option_is_told_from_none) {
  Facts facts = healthy();
  facts.tcp_listeners[1].transparent = false;
  Findings findings = check_listener(facts);
  const Finding* found = find(findings, "listener-transparent", Severity::failure);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->subject, "TCP [::1]:3129");
  facts.tcp_listeners.pop_back();
  findings = check_listener(facts);
  EXPECT_EQ(find(findings, "listener-transparent", Severity::failure), nullptr);
  EXPECT_NE(find(findings, "listener", Severity::failure), nullptr);
  facts.tcp_listeners[0].transparent = std::nullopt;  // an old kernel does not tell
  EXPECT_NE(find(check_listener(facts), "listener-transparent", Severity::skipped), nullptr);
}

TEST(Checks, what_a_probe_proved_counts_more_than_looks) {
  Facts facts = healthy();
  facts.ruleset->chains.push_back(
      {.family = "ip", .table = "filter", .name = "INPUT", .hook = "input", .priority = 0, .drops_by_policy = true});
  Findings findings = check_firewall(facts);
  const Finding* found = find(findings, "input-drop", Severity::warning);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(lines_of(*found), "iptables-nft -t filter -I INPUT 1 -m mark --mark 0x1000000/0x3000000 -j ACCEPT\n");
  facts.evidence["limpid"].accepted = {Family::ipv4};
  findings = check_firewall(facts);
  EXPECT_EQ(find(findings, "input-drop", Severity::warning), nullptr);
}

TEST(Checks, other_users_of_our_numbers_are_named) {
  Facts facts = healthy();
  RuleSpec rule;
  rule.priority = RulePriority{500};
  rule.mark = Mark{.value = 0x1000000, .mask = 0xff000000};
  rule.table = TableId{99};
  facts.survey.rules.push_back(rule);
  const Findings findings = check_routing(facts);
  const Finding* found = find(findings, "mark-clash", Severity::failure);
  ASSERT_NE(found, nullptr);
  EXPECT_NE(found->summary.find("ip -4 rule priority 500"), std::string::npos);
  EXPECT_EQ(lines_of(*found).find("limpid rules apply --tcp 80 --listen-port 3129 --mark "), 0U) << lines_of(*found);
  EXPECT_EQ(lines_of(*found).find("0x1000000/0x3000000"), std::string::npos) << "free ones";
}

TEST(Checks, answers_are_missed_for_foreign_addresses_only) {
  Facts facts = healthy();
  const SocketAddress target{.address = IpAddress::parse("198.51.100.2").value(), .port = Port{80}};
  facts.addresses = {{.link_index = 2, .address = IpAddress::parse("192.0.2.1").value(), .prefix_length = 24}};
  facts.unanswered = {{.local = {.address = IpAddress::parse("192.0.2.1").value(), .port = Port{40000}},
                       .target = target,
                       .repeated = 2}};
  EXPECT_EQ(find(check_routing(facts), "return-path", Severity::warning), nullptr);
  facts.unanswered.front().local.address = IpAddress::parse("192.0.2.2").value();
  const Findings findings = check_routing(facts);
  const Finding* found = find(findings, "return-path", Severity::warning);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(lines_of(*found), "limpid doctor --target 198.51.100.2:80 --as 192.0.2.2\n");
}

TEST(Checks, limits_that_are_near_are_warned_of) {
  Facts facts = healthy();
  facts.conntrack = Usage{.used = 95, .most = 100};
  EXPECT_NE(find(check_limits(facts), "conntrack", Severity::warning), nullptr);
  facts.conntrack->used = 100;
  EXPECT_NE(find(check_limits(facts), "conntrack", Severity::failure), nullptr);
  facts.descriptors = {.used = 1024, .most = 1024};
  EXPECT_NE(find(check_limits(facts), "descriptors", Severity::warning), nullptr);
  facts.time_wait = 25000;
  EXPECT_NE(find(check_limits(facts), "ports", Severity::warning), nullptr);
}

TEST(Checks, the_descriptors_of_who_relays_count_where_they_are_known) {
  Facts facts = healthy();
  facts.judged.front().processes = {{.pid = 812, .name = "limpid", .most_descriptors = 100}};
  Findings findings = check_limits(facts);
  const Finding* found = find(findings, "descriptors", Severity::warning);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->subject, "limpid");
  EXPECT_EQ(found->summary, "the process that relays (pid 812) may have 100 only: two for each connection");
  EXPECT_EQ(find(findings, "descriptors", Severity::ok), nullptr) << "the doctor's own limit says nothing of it";
  facts.judged.push_back(judged());  // another proxy's, of whom nothing is known
  findings = check_limits(facts);
  EXPECT_NE(find(findings, "descriptors", Severity::ok), nullptr);
  EXPECT_NE(find(findings, "descriptors", Severity::warning), nullptr);
}

TEST(Remedies, are_quoted_for_a_shell) {
  const Remedy remedy{
      .commands = {{"nft", "add", "chain", "inet", "t", "c", "{ type filter ; }"}, {"echo", "it's", ""}}};
  const auto lines = remedy.lines();
  EXPECT_EQ(lines[0], "nft add chain inet t c '{ type filter ; }'");
  EXPECT_EQ(lines[1], "echo 'it'\\''s' ''");
}

TEST(Remedies, only_safe_ones_of_what_is_wrong_are_applied_and_once) {
  const Remedy safe = mend({"ip", "link", "set", "lo", "up"});
  Remedy unsafe = safe;
  unsafe.safe = false;
  unsafe.commands = {{"reboot"}};
  const Findings findings = {failure(Group::kernel, "a", "", {}, safe), warning(Group::kernel, "b", "", {}, safe),
                             failure(Group::kernel, "c", "", {}, unsafe)};
  EXPECT_EQ(safe_commands(findings), safe.commands);
}

TEST(Report, nothing_in_it_acts_on_a_terminal) {
  const Findings findings = {
      failure(Group::firewall, "rules", "a table \x1b[2J\n", "evil\x07", advise("\x1b]0;x\x07"))};
  const std::string text = render_text(findings, {.color = false, .unicode = false});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\x07'), std::string::npos);
  EXPECT_NE(text.find("  x rules  evil?: a table ?[2J?\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace limpid::doctor
