// Facts about descriptions: they survive JSON, and what differs is told by what it is.
#include "config/description.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

ConfigurationDescription description() {
  return {.settings = {{"tcp", {"80"}}, {"workers", {"2"}}},
          .typed = {"workers"},
          .rules = {"domain(@ads) -> reject", "dport(80) -> direct", "otherwise -> drop"},
          .sets = {{"ads", {.holds_networks = false, .size = 2, .fingerprint = 0xffff'ffff'ffff'fff1}}},
          .groups = {{"office", {.settings = {{"servers", {"socks5://u:…@10.0.0.1"}}}, .secrets = 7}}}};
}

TEST(Description, survives_json) {
  const auto again = parse_description(to_json(description()));
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(compare(description(), *again).empty());
  EXPECT_EQ(to_json(*again), to_json(description()));
}

TEST(Description, what_makes_no_sense_is_an_error) {
  for (const std::string_view text : {"", "{", "[]", "{}", R"({"settings": 1, "typed": [], "rules": [], "sets": {}})",
                                      R"({"settings": {}, "typed": [], "rules": [1], "sets": {}})"})
    EXPECT_FALSE(parse_description(text)) << text;
}

TEST(Description, rules_are_added_removed_and_moved) {
  auto after = description();
  after.rules = {"otherwise -> drop", "domain(@ads) -> reject", "dport(80) -> direct"};
  auto difference = compare(description(), after);
  ASSERT_EQ(difference.rules.size(), 1U);
  EXPECT_EQ(difference.rules[0].text, "otherwise -> drop");
  EXPECT_EQ(difference.rules[0].before, 3U);
  EXPECT_EQ(difference.rules[0].after, 1U);

  after.rules = {"domain(@ads) -> reject", "ech -> drop", "otherwise -> drop"};
  difference = compare(description(), after);
  ASSERT_EQ(difference.rules.size(), 2U);
  EXPECT_EQ(difference.rules[0].after, 0U);
  EXPECT_EQ(difference.rules[1].before, 0U);
  EXPECT_EQ(difference.rules[1].text, "ech -> drop");
}

TEST(Description, the_same_rule_twice_is_two) {
  auto before = description();
  before.rules = {"ech -> drop", "ech -> drop"};
  auto after = before;
  after.rules = {"ech -> drop"};
  EXPECT_EQ(compare(before, after).rules.size(), 1U);
  EXPECT_EQ(compare(after, before).rules.size(), 1U);
}

TEST(Description, sets_of_one_size_may_differ) {
  auto after = description();
  after.sets["ads"].fingerprint ^= 1;
  const auto difference = compare(description(), after);
  ASSERT_EQ(difference.sets.size(), 1U);
  EXPECT_TRUE(difference.sets[0].was && difference.sets[0].will_be);
}

TEST(Description, what_was_typed_is_no_difference) {
  auto after = description();
  after.settings = {{"tcp", {"80", "443"}}, {"workers", {"4"}}};
  const auto difference = compare(description(), after);
  ASSERT_EQ(difference.settings.size(), 1U);
  EXPECT_EQ(difference.settings[0].key, "tcp");
}

TEST(Description, groups_differ_by_their_settings_and_by_what_is_not_shown) {
  auto after = description();
  after.groups["office"].secrets = 8;
  auto difference = compare(description(), after);
  ASSERT_EQ(difference.groups.size(), 1U);
  EXPECT_EQ(difference.groups[0].changed, std::vector<std::string>{"password"});
  after.groups["office"].settings["servers"] = {"socks5://10.0.0.2"};
  after.groups["office"].settings["choice"] = {"order"};
  after.groups["lab"].settings["servers"] = {"http://10.0.0.3"};
  difference = compare(description(), after);
  ASSERT_EQ(difference.groups.size(), 2U);
  EXPECT_EQ(difference.groups[0].name, "lab");
  EXPECT_FALSE(difference.groups[0].was);
  EXPECT_EQ(difference.groups[1].changed, (std::vector<std::string>{"choice", "servers"}));
  after.groups.erase("office");
  EXPECT_FALSE(compare(description(), after).groups[1].will_be);
}

TEST(Description, the_group_of_the_setting_is_told_of_as_a_setting) {
  auto after = description();
  after.groups["upstream"] = {.settings = {}, .secrets = 1};
  EXPECT_TRUE(compare(description(), after).groups.empty());
  auto other = after;
  other.groups["upstream"].secrets = 2;
  EXPECT_EQ(compare(after, other).groups.size(), 1U);
}

}  // namespace
}  // namespace limpid
