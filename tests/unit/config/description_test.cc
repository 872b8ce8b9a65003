// Facts about descriptions: they survive JSON, and what differs is told by what it is.
#include "config/description.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

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

/// As many as stay, the slow way.
std::size_t longest_common(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  std::vector<std::vector<std::size_t>> longest(before.size() + 1, std::vector<std::size_t>(after.size() + 1));
  for (std::size_t i = before.size(); i-- > 0;) {
    for (std::size_t j = after.size(); j-- > 0;) {
      longest[i][j] =
          before[i] == after[j] ? longest[i + 1][j + 1] + 1 : std::max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  return longest[0][0];
}

/// What a difference says, done to the rules before, makes those after.
void expect_sound(const std::vector<std::string>& before, const std::vector<std::string>& after,
                  const ConfigurationDifference& difference) {
  std::vector<bool> gone(before.size());
  std::vector<bool> come(after.size());
  for (const auto& rule : difference.rules) {
    if (rule.before != 0) {
      EXPECT_EQ(before.at(rule.before - 1), rule.text);
      gone.at(rule.before - 1) = true;
    }
    if (rule.after != 0) {
      EXPECT_EQ(after.at(rule.after - 1), rule.text);
      come.at(rule.after - 1) = true;
    }
  }
  std::vector<std::string> stay_before;
  std::vector<std::string> stay_after;
  for (std::size_t i = 0; i < before.size(); ++i)
    if (!gone[i]) stay_before.push_back(before[i]);
  for (std::size_t i = 0; i < after.size(); ++i)
    if (!come[i]) stay_after.push_back(after[i]);
  EXPECT_EQ(stay_before, stay_after);
}

ConfigurationDifference compare_rules_only(const std::vector<std::string>& before,
                                           const std::vector<std::string>& after) {
  ConfigurationDescription one;
  one.rules = before;
  ConfigurationDescription other;
  other.rules = after;
  return compare(one, other);
}

TEST(Description, as_many_rules_stay_as_can) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const auto make = [&] {
      std::vector<std::string> rules(random() % 12);
      for (auto& rule : rules) rule = std::string(1, static_cast<char>('a' + random() % 6));
      return rules;
    };
    const auto before = make();
    const auto after = make();
    const auto difference = compare_rules_only(before, after);
    expect_sound(before, after, difference);
    const auto gone = std::ranges::count_if(difference.rules, [](const auto& rule) { return rule.before != 0; });
    EXPECT_EQ(before.size() - static_cast<std::size_t>(gone), longest_common(before, after));
  }
}

TEST(Description, long_lists_take_no_more_than_their_length) {
  constexpr std::size_t kMany = 100'000;  // the product of both would be 10^10
  std::vector<std::string> before(kMany);
  for (std::size_t i = 0; i < kMany; ++i) before[i] = fmt::format("dport({}) -> direct", i);
  auto after = before;
  std::ranges::rotate(after, after.begin() + 1);
  auto difference = compare_rules_only(before, after);
  ASSERT_EQ(difference.rules.size(), 1U);
  EXPECT_EQ(difference.rules[0].before, 1U);
  EXPECT_EQ(difference.rules[0].after, kMany);
  // All alike: as many pairs as the product.
  std::ranges::fill(before, "dport(1) -> direct");
  after.assign(kMany - 5, "dport(1) -> direct");
  difference = compare_rules_only(before, after);
  expect_sound(before, after, difference);
  EXPECT_EQ(difference.rules.size(), 5U);
}

}  // namespace
}  // namespace limpid
