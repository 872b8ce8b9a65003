// Plans as text: what `limpid rules show` prints, for several scopes, compared with the files beside this one. After a
// deliberate change: LIMPID_UPDATE_GOLDEN=1 ctest -R golden, and read the difference before committing it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>

#include "intercept/plan.h"

namespace limpid {
namespace {

PlanInputs basic() {
  PlanInputs inputs;
  inputs.ownership = {.name = "limpid",
                      .keeper = Keeper::process,
                      .mark = {.mask = 0x03000000, .intercept = 0x01000000, .bypass = 0x02000000},
                      .table = {7676},
                      .priority = {100},
                      .listener = {1080},
                      .sysctls = {}};
  inputs.scope.tcp = *PortSet::parse("80,443,8000-8100");
  return inputs;
}

Prefix network(std::string_view text) {
  return Prefix::parse(text).value();
}

void compare(const std::string& name, const std::string& actual) {
  const std::string path = std::string(LIMPID_TESTS_DIR) + "/golden/" + name;
  if (std::getenv("LIMPID_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << actual;
    std::cerr << "wrote " << path << '\n';
    return;
  }
  std::ifstream file(path);
  ASSERT_TRUE(file.is_open()) << path << " is missing: LIMPID_UPDATE_GOLDEN=1 writes it";
  const std::string expected{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_EQ(actual, expected) << "if this is meant: LIMPID_UPDATE_GOLDEN=1 writes " << path;
}

std::string commands(const PlanInputs& inputs) {
  const Plan plan = make_plan(inputs);
  return render_commands(plan) + "\n# Removal\n" + render_removal_commands(plan);
}

TEST(GoldenPlan, everything_on_some_ports_fail_open) {
  compare("fail_open.txt", commands(basic()));
}

TEST(GoldenPlan, fail_closed) {
  PlanInputs inputs = basic();
  inputs.fail = FailMode::closed;
  compare("fail_closed.txt", commands(inputs));
}

TEST(GoldenPlan, local_traffic_of_everybody) {
  PlanInputs inputs = basic();
  inputs.scope.forwarded = false;
  inputs.scope.udp = *PortSet::parse("53,5000-5010");
  inputs.scope.local = LocalScope{};
  inputs.ownership.local = true;
  compare("local_only.txt", commands(inputs));
}

TEST(GoldenPlan, local_traffic_of_some_programs_beside_forwarded_traffic) {
  PlanInputs inputs = basic();
  inputs.fail = FailMode::closed;
  inputs.scope.to_prefixes = {network("198.51.100.0/24")};
  inputs.scope.ipv6 = false;
  inputs.scope.from_interfaces = {"lan"};
  inputs.scope.local = LocalScope{.only = {.users = {{1000, 1000}, {1001, 1001}, {2000, 2999}},
                                           .groups = {{50, 50}},
                                           .cgroups = {"user.slice/user-1000.slice"}},
                                  .never = {.users = {{13, 13}}, .groups = {}, .cgroups = {"system.slice"}}};
  inputs.ownership.local = true;
  compare("local_programs.txt", commands(inputs));
}

TEST(GoldenPlan, every_kind_of_scope) {
  PlanInputs inputs = basic();
  inputs.ownership.name = "guests";
  inputs.ownership.keeper = Keeper::permanent;
  inputs.scope.from_interfaces = {"wg0", "lan", "eth0.100"};
  for (const auto* text : {"10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24", "2001:db8:1::/48"}) {
    inputs.scope.from_prefixes.push_back(network(text));
  }
  for (const auto* text : {"198.51.100.0/24", "2001:db8::/32"}) inputs.scope.to_prefixes.push_back(network(text));
  for (const auto* text :
       {"198.51.100.1", "198.51.100.3", "198.51.100.5", "198.51.100.7", "198.51.100.9", "2001:db8::1"}) {
    inputs.scope.excluded.push_back(network(text));
  }
  compare("every_kind_of_scope.txt", commands(inputs));
}

TEST(GoldenPlan, both_legs_with_one_5_tuple) {
  PlanInputs inputs = basic();
  inputs.keeps_source_port = true;
  compare("keeps_source_port.txt", commands(inputs));
}

TEST(GoldenPlan, datagrams_with_one_5_tuple_on_both_legs) {
  PlanInputs inputs = basic();
  inputs.scope.udp = *PortSet::parse("53,443");
  inputs.ownership.keeps_udp_port = true;
  compare("keeps_udp_port.txt", commands(inputs));
  inputs.keeps_source_port = true;
  compare("keeps_both_ports.txt", commands(inputs));
}

TEST(GoldenPlan, for_a_proxy_that_asks_conntrack) {
  PlanInputs inputs = basic();
  inputs.needs_conntrack = true;
  compare("needs_conntrack.txt", commands(inputs));
}

TEST(GoldenPlan, for_a_proxy_that_listens_on_every_address) {
  PlanInputs inputs = basic();
  inputs.guards_listener = true;
  compare("guards_listener.txt", commands(inputs));
}

TEST(GoldenPlan, one_family_and_forwarding) {
  PlanInputs inputs = basic();
  inputs.scope.ipv6 = false;
  inputs.scope.excluded = {network("0.0.0.0/0"), network("2001:db8::/32")};
  inputs.ownership.sysctls = "4";
  inputs.sysctls = {{.key = std::string(kForwardingIpv4), .value = "1", .previous = "0"}};
  compare("ipv4_only_with_forwarding.txt", commands(inputs));
}

TEST(GoldenPlan, while_draining) {
  PlanInputs inputs = basic();
  std::string text = "# fail-open\n" + render_draining_table(make_plan(inputs));
  inputs.fail = FailMode::closed;
  text += "# fail-closed\n" + render_draining_table(make_plan(inputs));
  compare("draining.txt", text);
}

PlanInputs with_iptables(PlanInputs inputs, Backend backend = Backend::iptables_nft) {
  inputs.ownership.backend = backend;
  inputs.ownership.heartbeat = inputs.ownership.keeper == Keeper::process;
  return inputs;
}

TEST(GoldenPlan, with_iptables) {
  PlanInputs inputs = basic();
  inputs.scope.udp = *PortSet::parse("53");
  compare("iptables_fail_open.txt", commands(with_iptables(inputs)));
  inputs.fail = FailMode::closed;
  compare("iptables_fail_closed.txt", commands(with_iptables(inputs, Backend::iptables_legacy)));
  inputs.ownership.keeper = Keeper::permanent;
  compare("iptables_for_another_proxy.txt", commands(with_iptables(inputs)));
}

TEST(GoldenPlan, with_iptables_and_every_kind_of_scope) {
  PlanInputs inputs = basic();
  inputs.ownership.name = "guests_of_the_inn";
  inputs.ownership.name.resize(16);
  inputs.scope.tcp = *PortSet::parse("1,3,5,7,9,11,13,15,17,19,21,23,25,27,100-200,300-400");
  inputs.scope.from_interfaces = {"wg0", "lan", "eth0.100"};
  for (const auto* text : {"10.0.0.0/8", "10.1.0.0/16", "2001:db8:1::/48"})
    inputs.scope.from_prefixes.push_back(network(text));
  for (const auto* text : {"198.51.100.0/24", "2001:db8::/32"}) inputs.scope.to_prefixes.push_back(network(text));
  for (const auto* text : {"198.51.100.1", "2001:db8::1"}) inputs.scope.excluded.push_back(network(text));
  compare("iptables_every_kind_of_scope.txt", commands(with_iptables(inputs)));
}

TEST(GoldenPlan, with_iptables_and_local_traffic) {
  PlanInputs inputs = basic();
  inputs.scope.forwarded = false;
  inputs.scope.udp = *PortSet::parse("53,5000-5010");
  inputs.scope.local = LocalScope{};
  inputs.ownership.local = true;
  compare("iptables_local_only.txt", commands(with_iptables(inputs)));
  inputs.scope.forwarded = true;
  inputs.scope.ipv6 = false;
  inputs.fail = FailMode::closed;
  inputs.scope.to_prefixes = {network("198.51.100.0/24")};
  inputs.scope.local = LocalScope{
      .only = {.users = {{1000, 1000}, {2000, 2999}}, .groups = {{50, 50}}, .cgroups = {R"(user.slice/dev-disk\x2d1)"}},
      .never = {.users = {{13, 13}}, .groups = {}, .cgroups = {"system.slice"}}};
  compare("iptables_local_programs.txt", commands(with_iptables(inputs)));
}

TEST(GoldenPlan, with_ebpf) {
  PlanInputs inputs = basic();
  inputs.ownership.backend = Backend::ebpf;
  compare("ebpf_fail_open.txt", commands(inputs));
  compare("ebpf_plan.json", render_json(make_plan(inputs)));
  inputs.fail = FailMode::closed;
  inputs.scope.udp = *PortSet::parse("53,5000-5010");
  inputs.scope.from_interfaces = {"wg0", "lan"};
  inputs.scope.to_prefixes = {network("198.51.100.0/24"), network("2001:db8::/32")};
  inputs.scope.excluded = {network("198.51.100.1")};
  inputs.scope.local =
      LocalScope{.only = {.users = {{1000, 1000}}, .groups = {}, .cgroups = {"user.slice"}}, .never = {}};
  inputs.ownership.local = true;
  compare("ebpf_every_kind_of_scope.txt", commands(inputs));
}

TEST(GoldenPlan, with_iptables_and_one_5_tuple_on_both_legs) {
  PlanInputs inputs = basic();
  inputs.scope.udp = *PortSet::parse("53,443");
  inputs.keeps_source_port = true;
  compare("iptables_keeps_source_port.txt", commands(with_iptables(inputs)));
  inputs.ownership.keeps_udp_port = true;
  compare("iptables_keeps_both_ports.txt", commands(with_iptables(inputs)));
  inputs.keeps_source_port = false;
  compare("iptables_keeps_udp_port.txt", commands(with_iptables(inputs)));
}

TEST(GoldenPlan, with_iptables_while_draining) {
  PlanInputs inputs = basic();
  inputs.scope.local = LocalScope{};
  inputs.ownership.local = true;
  std::string text;
  const auto add = [&](std::string_view what) {
    text += "# " + std::string(what) + '\n';
    for (const XtablesRuleset& rules : draining_xtables(make_plan(with_iptables(inputs))))
      text += render_restore(rules);
  };
  add("fail-open");
  inputs.fail = FailMode::closed;
  add("fail-closed");
  inputs.scope.local.reset();
  inputs.ownership.local = false;
  inputs.keeps_source_port = true;
  add("fail-closed, the client's port kept");
  compare("iptables_draining.txt", text);
}

TEST(GoldenPlan, as_json) {
  PlanInputs inputs = basic();
  inputs.fail = FailMode::closed;
  inputs.scope.from_interfaces = {"lan"};
  inputs.scope.from_prefixes = {network("2001:db8:1::/48")};
  inputs.scope.excluded = {network("10.0.0.0/8")};
  compare("plan.json", render_json(make_plan(inputs)));
  compare("iptables_plan.json", render_json(make_plan(with_iptables(inputs))));
}

}  // namespace
}  // namespace limpid
