// Installing, comparing and removing plans beside other people's rules, in an otherwise empty network namespace.
#include "intercept/install.h"

#include <algorithm>

#include "intercept/survey.h"
#include "tests/kernel/testbed.h"

namespace limpid {
namespace {

using testbed::must;
using testbed::Namespace;

InterceptionOptions options(const std::string& name = "limpid") {
  InterceptionOptions wanted;
  wanted.name = name;
  wanted.scope.tcp = *PortSet::parse("80,443,8000-8100");
  wanted.scope.from_interfaces = {"lan"};
  wanted.scope.excluded = {*Prefix::parse("10.0.0.0/8"), *Prefix::parse("2001:db8::/32")};
  wanted.listener = Port{1080};
  return wanted;
}

class Install : public testbed::NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (!IsSkipped()) add_third_parties();
  }

  /// What others have: rules, routes and tables that look somewhat like ours.
  void add_third_parties() const {
    host_.nft(
        "table inet limpidity {\n comment \"not ours\"\n chain prerouting {\n  type filter hook prerouting priority "
        "mangle;\n"
        "  meta mark 1 accept\n }\n}\ntable ip nat {\n chain c {\n  type nat hook postrouting priority srcnat;\n  "
        "masquerade\n }\n}\n");
    for (const std::string family : {"-4", "-6"}) {
      ip({family, "route", "add", "local", "default", "dev", "lo", "table", "100"});
      ip({family, "rule", "add", "priority", "150", "fwmark", "1", "lookup", "100"});
      ip({family, "rule", "add", "priority", "151", "fwmark", "0x10000/0xff0000", "lookup", "52"});
    }
  }
  void ip(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "ip");
    host_.command("iproute2", arguments);
  }
  Plan plan_for(const InterceptionOptions& wanted, bool enable_forwarding = false,
                Keeper keeper = Keeper::process) const {
    return host_.run([&] {
      return make_plan(
          must(prepare_inputs(must(survey_kernel(), "survey"), wanted, keeper, enable_forwarding), "prepare"));
    });
  }
  Status install(const Plan& plan) const {
    return host_.run([&] { return install_plan(plan); });
  }
  std::vector<std::string> diff(const Plan& plan) const {
    return host_.run([&] { return must(diff_plan(plan), "diff"); });
  }
  std::vector<std::string> remove(const std::string& name) const {
    return host_.run([&] { return must(remove_installation(name), "remove"); });
  }

  const Namespace host_;
};

TEST_F(Install, and_removal_leave_third_parties_byte_identical) {
  const std::string before = host_.snapshot();
  for (const bool with_plan : {true, false}) {
    const Plan plan = plan_for(options(), true);
    must(host_.run([&] { return check_plan(plan); }), "check");
    EXPECT_EQ(host_.snapshot(), before) << "a check changes nothing";
    must(install(plan), "install");
    EXPECT_NE(host_.snapshot(), before);
    EXPECT_EQ(diff(plan), std::vector<std::string>{});
    if (with_plan) {
      must(host_.run([&] { return remove_plan(plan); }), "remove");
    } else {
      EXPECT_EQ(remove("limpid").size(), 1U + 6 + 2 + 2);
    }
    EXPECT_EQ(host_.snapshot(), before);
  }
}

TEST_F(Install, twice_is_as_once) {
  must(install(plan_for(options())), "install");
  const std::string once = host_.snapshot();
  must(install(plan_for(options())), "install again");
  EXPECT_EQ(host_.snapshot(), once);
}

TEST_F(Install, replaces_a_left_over_and_removes_what_only_that_needed) {
  const std::string before = host_.snapshot();
  must(install(plan_for(options(), true)), "install");
  InterceptionOptions wanted = options();
  wanted.table = TableId{9000};
  wanted.priority = RulePriority{200};
  wanted.mark = Mark{.value = 0x4, .mask = 0xc};
  const Plan other = plan_for(wanted);
  must(install(other), "replace");
  EXPECT_EQ(diff(other), std::vector<std::string>{});
  const std::string rules = host_.command("iproute2", {"ip", "rule"});
  EXPECT_EQ(rules.find("7676"), std::string::npos) << rules;
  EXPECT_EQ(rules.find("0x1000000"), std::string::npos) << rules;
  remove("limpid");
  EXPECT_EQ(host_.snapshot(), before) << "forwarding too, which only the left-over switched on";
}

TEST_F(Install, leaves_nothing_of_a_family_that_is_left_out_now) {
  InterceptionOptions wanted = options();
  wanted.scope.ipv6 = false;
  const Plan narrow = plan_for(wanted);
  must(install(narrow), "install");
  const std::string once = host_.snapshot();
  must(install(plan_for(options())), "both families");
  EXPECT_NE(host_.snapshot(), once);
  must(install(narrow), "one family again");
  EXPECT_EQ(diff(narrow), std::vector<std::string>{});
  EXPECT_EQ(host_.snapshot(), once);
}

TEST_F(Install, rolls_back_when_a_route_is_in_the_way) {
  const Plan plan = plan_for(options(), true);
  ip({"-6", "route", "add", "local", "default", "dev", "lo", "table",
      std::to_string(plan.inputs.ownership.table.value)});
  const std::string before = host_.snapshot();
  const auto installed = install(plan);
  ASSERT_FALSE(installed);
  EXPECT_NE(installed.error().message().find("ip -6 route"), std::string::npos) << testbed::why(installed.error());
  EXPECT_EQ(host_.snapshot(), before);
}

TEST_F(Install, rolls_back_when_nft_refuses) {
  Plan plan = plan_for(options(), true);
  plan.nft_table.insert(plan.nft_table.rfind('}'), "  chain broken { nonsense }\n");
  const std::string before = host_.snapshot();
  const auto installed = install(plan);
  ASSERT_FALSE(installed);
  EXPECT_EQ(installed.error().message().find('\n'), std::string::npos);
  EXPECT_EQ(host_.snapshot(), before);
}

TEST_F(Install, a_roll_back_keeps_the_left_over_at_work) {
  const Plan left_over = plan_for(options());
  must(install(left_over), "install");
  const std::string before = host_.snapshot();
  Plan plan = plan_for(options());
  plan.nft_table += "nonsense\n";
  ASSERT_FALSE(install(plan));
  EXPECT_EQ(host_.snapshot(), before);
  EXPECT_EQ(diff(left_over), std::vector<std::string>{});
}

TEST_F(Install, needs_the_loopback_interface) {
  const Plan plan = plan_for(options());
  ip({"link", "set", "lo", "down"});
  const std::string before = host_.snapshot();
  const auto installed = install(plan);
  ASSERT_FALSE(installed);
  EXPECT_NE(installed.error().message().find("ip link set lo up"), std::string::npos);
  EXPECT_EQ(host_.snapshot(), before);
}

TEST_F(Install, never_touches_a_table_of_that_name_that_somebody_else_made) {
  const Plan plan = plan_for(options());
  host_.nft("table inet limpid {\n comment \"limpid is a nice word\"\n chain c {\n }\n}\n");
  const std::string before = host_.snapshot();
  EXPECT_FALSE(host_.run([&] { return check_plan(plan); }));
  EXPECT_FALSE(install(plan));
  EXPECT_FALSE(host_.run([&] { return remove_installation("limpid"); }));
  EXPECT_EQ(host_.snapshot(), before);
}

TEST_F(Install, instances_of_two_names_live_side_by_side) {
  const Plan one = plan_for(options());
  must(install(one), "install");
  const Plan other = plan_for(options("squid"));
  must(install(other), "install");
  EXPECT_NE(one.inputs.ownership.mark, other.inputs.ownership.mark);
  EXPECT_EQ(diff(one), std::vector<std::string>{});
  EXPECT_EQ(diff(other), std::vector<std::string>{});
  remove("limpid");
  EXPECT_EQ(diff(other), std::vector<std::string>{});
}

TEST_F(Install, removal_reaps_what_a_crash_left_without_a_table) {
  const std::string before = host_.snapshot();
  const Plan crashed = plan_for(options("crashed"));
  must(install(crashed), "install");
  host_.nft("delete table inet limpid_crashed\n");
  const Plan alive = plan_for(options("alive"));
  ip({"-4", "route", "add", "local", "default", "dev", "lo", "table", "7690", "proto", "76"});
  must(install(alive), "install");
  EXPECT_EQ(diff(alive), std::vector<std::string>{}) << "an orphan of the same shape is adopted or in nobody's way";
  EXPECT_EQ(host_.command("iproute2", {"ip", "route", "show", "table", "all"}).find("7690"), std::string::npos)
      << "the next installation reaps too";
  remove("alive");
  EXPECT_EQ(host_.snapshot(), before);
}

TEST_F(Install, removal_of_nothing_says_so) {
  const std::string before = host_.snapshot();
  EXPECT_TRUE(remove("limpid").empty());
  EXPECT_EQ(host_.snapshot(), before);
}

TEST_F(Install, removal_leaves_a_sysctl_alone_that_somebody_has_changed_since) {
  must(install(plan_for(options(), true)), "install");
  host_.set_sysctl(kForwardingIpv4, "0");
  host_.set_sysctl(kForwardingIpv4, "1");
  remove("limpid");
  EXPECT_EQ(host_.command("procps", {"sysctl", "-n", std::string(kForwardingIpv4)}), "0\n");
}

TEST_F(Install, the_printed_commands_do_the_same_and_undo_it) {
  const std::string before = host_.snapshot();
  InterceptionOptions wanted = options();
  for (const bool keeps_source_port : {false, true}) {
    wanted.keeps_source_port = keeps_source_port;
    wanted.fail = keeps_source_port ? FailMode::closed : FailMode::open;
    const Plan plan = plan_for(wanted, true, Keeper::permanent);
    host_.command("dash", {"sh", "-e"}, render_commands(plan));
    EXPECT_EQ(diff(plan), std::vector<std::string>{});
    host_.command("dash", {"sh", "-e"}, render_removal_commands(plan));
    EXPECT_EQ(host_.snapshot(), before);
  }
}

TEST_F(Install, diff_names_each_thing_that_was_changed) {
  const Plan plan = plan_for(options(), true);
  must(install(plan), "install");
  const auto has = [](const std::vector<std::string>& lines, std::string_view part) {
    return std::ranges::any_of(lines, [&](const std::string& line) { return line.find(part) != std::string::npos; });
  };
  ip({"-6", "rule", "del", "priority", "101"});
  EXPECT_TRUE(has(diff(plan), "missing: ip -6 rule priority 101"));
  ip({"-4", "rule", "add", "priority", "102", "fwmark", "7", "lookup", "main"});
  EXPECT_TRUE(has(diff(plan), "unexpected: ip -4 rule priority 102"));
  ip({"-4", "route", "flush", "table", "7676"});
  EXPECT_TRUE(has(diff(plan), "missing: ip -4 route local 0.0.0.0/0"));
  host_.set_sysctl(kForwardingIpv4, "0");
  EXPECT_TRUE(has(diff(plan), "net.ipv4.ip_forward is 0"));
  host_.nft("add rule inet limpid intercept accept\nflush chain inet limpid divert\n");
  EXPECT_TRUE(has(diff(plan), "+ \t\taccept"));
  EXPECT_TRUE(has(diff(plan), "- \t\tsocket wildcard 1 return"));
  host_.nft("delete table inet limpid\n");
  EXPECT_TRUE(has(diff(plan), "missing: nft table inet limpid"));
}

}  // namespace
}  // namespace limpid
