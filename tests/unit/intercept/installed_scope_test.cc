// What is read back of an installed table is what was asked for: each scope is loaded by nft in a namespace of its own.
#include "intercept/installed_scope.h"

#include <gtest/gtest.h>

#include "intercept/nft.h"
#include "intercept/plan.h"
#include "tests/kernel/testbed.h"

namespace limpid {
namespace {

class InstalledScopeTest : public testbed::NamespaceTest {
 protected:
  static InstalledScope installed(const PlanInputs& inputs) {
    const testbed::Namespace where;
    return where.run([&] {
      const Plan plan = make_plan(inputs);
      testbed::must(feed_nft(NftMode::apply, render_nft_replacement(plan), "the plan"), "load");
      return read_installed_scope(testbed::must(read_ruleset(), "list"), plan.table_name);
    });
  }
  static PlanInputs inputs() {
    PlanInputs made;
    made.ownership.name = "limpid";
    made.ownership.mark = MarkField{.mask = 0x3000000, .intercept = 0x1000000, .bypass = 0x2000000};
    made.ownership.table = TableId{7676};
    made.ownership.priority = RulePriority{100};
    made.ownership.listener = Port{1080};
    return made;
  }
  static std::vector<Prefix> prefixes(std::initializer_list<const char*> texts) {
    std::vector<Prefix> made;
    for (const char* text : texts) made.push_back(testbed::must(Prefix::parse(text), text));
    return made;
  }
};

TEST_F(InstalledScopeTest, every_kind_of_scope_comes_back) {
  PlanInputs made = inputs();
  made.scope.tcp = PortSet::parse("80,443,8000-8100").value();
  made.scope.udp = PortSet::parse("53").value();
  made.scope.from_interfaces = {"lan"};
  made.scope.from_prefixes = prefixes({"10.0.0.0/8", "2001:db8::/32"});
  made.scope.to_prefixes = prefixes({"203.0.113.0/24", "2001:db8:2::/48"});
  made.scope.excluded = prefixes({"203.0.113.7/32"});
  made.fail = FailMode::closed;
  const InstalledScope read = installed(made);
  EXPECT_EQ(read.scope.tcp, made.scope.tcp);
  EXPECT_EQ(read.scope.udp, made.scope.udp);
  EXPECT_EQ(read.scope.from_interfaces, made.scope.from_interfaces);
  EXPECT_EQ(read.scope.from_prefixes, made.scope.from_prefixes);
  EXPECT_EQ(read.scope.to_prefixes, made.scope.to_prefixes);
  EXPECT_EQ(read.scope.excluded, made.scope.excluded);
  EXPECT_TRUE(read.scope.ipv4 && read.scope.ipv6 && read.scope.forwarded && read.complete && !read.draining);
  EXPECT_EQ(read.fail, FailMode::closed);
}

TEST_F(InstalledScopeTest, the_simplest_scope_comes_back) {
  PlanInputs made = inputs();
  made.scope.tcp = PortSet::parse("all").value();
  made.scope.ipv6 = false;
  const InstalledScope read = installed(made);
  EXPECT_EQ(read.scope.tcp, made.scope.tcp);
  EXPECT_TRUE(read.scope.udp.empty() && read.scope.from_interfaces.empty() && read.scope.from_prefixes.empty());
  EXPECT_TRUE(read.scope.ipv4 && !read.scope.ipv6);
  EXPECT_EQ(read.fail, FailMode::open);
}

TEST_F(InstalledScopeTest, datagrams_with_the_clients_port_come_back) {
  PlanInputs made = inputs();
  made.scope.udp = PortSet::parse("53,4000-4100").value();
  made.ownership.keeps_udp_port = true;
  EXPECT_EQ(installed(made).scope.udp, made.scope.udp);
}

TEST_F(InstalledScopeTest, networks_in_sets_are_known_to_be_unknown) {
  PlanInputs made = inputs();
  made.scope.tcp = PortSet::parse("80").value();
  for (unsigned i = 0; i < 70; ++i) {
    made.scope.to_prefixes.push_back(Prefix::parse("10." + std::to_string(i * 2) + ".0.0/16").value());
  }
  EXPECT_FALSE(installed(made).complete);
}

}  // namespace
}  // namespace limpid
