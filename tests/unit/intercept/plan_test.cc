// Facts about values of the plan: mark fields, the ownership comment and its enemies, names.
#include "intercept/plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace limpid {
namespace {

Ownership example() {
  return {.name = "limpid",
          .keeper = Keeper::process,
          .mark = {.mask = 0x03000000, .intercept = 0x01000000, .bypass = 0x02000000},
          .table = {7676},
          .priority = {100},
          .listener = {1080},
          .sysctls = {}};
}

TEST(MarkField, splits_a_mask_into_intercept_and_bypass) {
  const auto field = MarkField::from({.value = 0x1, .mask = 0x3});
  ASSERT_TRUE(field);
  EXPECT_EQ(field->intercept_mark(), (Mark{.value = 0x1, .mask = 0x3}));
  EXPECT_EQ(field->bypass_mark(), (Mark{.value = 0x2, .mask = 0x3}));
}

TEST(MarkField, refuses_marks_without_room_for_two_values) {
  for (const Mark mark : {Mark{.value = 1, .mask = 1}, Mark{.value = 0, .mask = 3}, Mark{.value = 3, .mask = 3},
                          Mark{.value = 0, .mask = 0}, Mark{.value = 4, .mask = 3}}) {
    const auto field = MarkField::from(mark);
    ASSERT_FALSE(field) << mark.to_string();
    EXPECT_EQ(field.error().kind, ErrorKind::usage);
    EXPECT_FALSE(field.error().remedy.empty());
  }
}

TEST(Ownership, comes_back_from_its_comment) {
  Ownership owner = example();
  EXPECT_EQ(owner.to_comment(), "limpid 1 run 0x1000000/0x3000000 7676 100 p1080");
  for (const std::string sysctls : {"", "4", "6", "46"}) {
    for (const auto& [keeper, local] : {std::pair{Keeper::process, false}, std::pair{Keeper::permanent, true}}) {
      owner.sysctls = sysctls;
      owner.keeper = keeper;
      owner.local = local;
      owner.keeps_udp_port = !local;
      owner.heartbeat = local;
      const auto read = Ownership::from_comment("limpid", owner.to_comment());
      ASSERT_TRUE(read) << owner.to_comment();
      EXPECT_EQ(*read, owner);
    }
  }
}

TEST(Ownership, fits_nftables_longest_comment) {
  Ownership owner = example();
  owner.keeper = Keeper::permanent;
  owner.mark = {.mask = 0xffffffff, .intercept = 0xfffffffe, .bypass = 1};
  owner.table = {0xffffffff};
  owner.priority = {0xfffffffd};
  owner.listener = {65535};
  owner.sysctls = "46";
  owner.local = true;
  owner.keeps_udp_port = true;
  EXPECT_LE(owner.to_comment().size(), 127U);
  EXPECT_TRUE(Ownership::from_comment("limpid", owner.to_comment()));
}

TEST(Ownership, believes_no_comment_that_it_could_not_have_written) {
  const std::vector<std::string> hostile = {
      "",
      " ",
      "limpid",
      "limpid 1",
      "hello world",
      "limpid 1 run 0x1/0x3 7676 100",
      "limpid 1 run 0x1/0x3 7676 100 p",
      "limpid 1 run 0x1/0x3 7676 100 1080",
      "limpid 1 run 0x1/0x3 7676 100 p65536",
      "limpid 1 run 0x1/0x3 7676 100 p-1",
      "limpid 1 run 0x1/0x3 7676 100 p1080 ",
      "limpid 1 run 0x1/0x3 7676 100 p1080 local f4",
      "limpid 1 run 0x1/0x3 7676 100 p1080 local local",
      " limpid 1 run 0x1/0x3 7676 100 p1080",
      "limpid 1 run  0x1/0x3 7676 100 p1080",
      "limpid 1 run 1/3 7676 100 p1080",
      "limpid 1 run 0x1 7676 100 p1080",
      "limpid 1 run 0x3/0x3 7676 100 p1080",
      "limpid 1 run 0x0/0x3 7676 100 p1080",
      "limpid 1 run 0x5/0x3 7676 100 p1080",
      "limpid 1 run 0x1/0x3 0 100 p1080",
      "limpid 1 run 0x1/0x3 7676 0 p1080",
      "limpid 1 run 0x1/0x3 4294967296 100 p1080",
      "limpid 1 run 0x1/0x3 7676 4294967295 p1080",
      "limpid 1 run 0x1/0x3 07676 100 p1080",
      "limpid 1 run 0x01/0x3 7676 100 p1080",
      "limpid 1 stop 0x1/0x3 7676 100 p1080",
      "limpid 1 run 0x1/0x3 7676 100 p1080 f",
      "limpid 1 run 0x1/0x3 7676 100 p1080 f64",
      "limpid 1 run 0x1/0x3 7676 100 p1080 f4/../../kernel",
      "limpid 1 run 0x1/0x3 7676 100 p1080 x4",
      "limpid 1 run 0x1/0x3 7676 100 p1080 f4 f6",
      "limpid 1 run 0x1/0x3 7676 100 p1080\" ; flush ruleset",
      "limpid 1 run 0x1/0x3 7676 100 p1080\n",
      "LIMPID 1 run 0x1/0x3 7676 100 p1080",
      std::string("limpid 1 run 0x1/0x3 7676 100 p1080\0", 36),
      std::string(100000, ' '),
      std::string(100000, 'x'),
  };
  for (const std::string& comment : hostile) {
    EXPECT_FALSE(Ownership::from_comment("limpid", comment)) << comment.substr(0, 100);
  }
}

TEST(Ownership, names_another_version) {
  const auto read = Ownership::from_comment("limpid", "limpid 2 something else");
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message().find("version"), std::string::npos);
}

TEST(InstanceName, takes_only_what_is_harmless_in_nft_text) {
  for (const std::string name : {"limpid", "a", "squid_2", "abcdefghijklmnop"}) {
    EXPECT_TRUE(check_instance_name(name)) << name;
    EXPECT_EQ(instance_of(table_name_of(name)), name);
  }
  for (const std::string name :
       {"", "A", "1a", "_a", "a-b", "a b", "a;b", "a\"", "abcdefghijklmnopq", "ä", "a\n", "a{", "a#"}) {
    EXPECT_FALSE(check_instance_name(name)) << name;
  }
  EXPECT_EQ(instance_of("limpid_limpid"), std::nullopt);
  EXPECT_EQ(instance_of("limpid__probe"), std::nullopt);
  EXPECT_EQ(instance_of("limpidity"), std::nullopt);
  EXPECT_EQ(instance_of("filter"), std::nullopt);
}

TEST(MakePlan, never_lets_an_interface_name_out_of_its_quotes) {
  PlanInputs inputs;
  inputs.ownership = example();
  inputs.scope.tcp.insert({Port{80}, Port{80}});
  inputs.scope.from_interfaces = {"lan\" accept; flush ruleset #", "eth0.100"};
  const Plan plan = make_plan(inputs);
  EXPECT_NE(plan.nft_table.find("\"lan__accept__flush_ruleset__\""), std::string::npos) << plan.nft_table;
  EXPECT_NE(plan.nft_table.find("\"eth0.100\""), std::string::npos);
}

TEST(MakePlan, drops_networks_that_others_contain) {
  PlanInputs inputs;
  inputs.ownership = example();
  inputs.scope.tcp.insert({Port{80}, Port{80}});
  for (const std::string_view text : {"10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/8"}) {
    inputs.scope.excluded.push_back(*Prefix::parse(text));
  }
  const Plan plan = make_plan(inputs);
  EXPECT_NE(plan.nft_table.find("ip daddr 10.0.0.0/8 accept\n    ip daddr 11.0.0.0/8 accept\n"), std::string::npos)
      << plan.nft_table;
  EXPECT_EQ(plan.nft_table.find("10.1.0.0/16"), std::string::npos);
}

TEST(MakePlan, few_prefixes_are_rules_and_many_are_a_set) {
  PlanInputs inputs;
  inputs.ownership = example();
  inputs.scope.tcp.insert({Port{80}, Port{80}});
  for (int i = 0; i < 64; ++i) inputs.scope.excluded.push_back(*Prefix::parse(fmt::format("10.{}.0.0/24", i)));
  EXPECT_EQ(make_plan(inputs).nft_table.find("set excluded_ipv4"), std::string::npos);
  inputs.scope.excluded.push_back(*Prefix::parse("10.64.0.0/24"));
  const auto text = make_plan(inputs).nft_table;
  EXPECT_NE(text.find("set excluded_ipv4"), std::string::npos);
  EXPECT_NE(text.find("ip daddr @excluded_ipv4 accept"), std::string::npos);
}

}  // namespace
}  // namespace limpid
