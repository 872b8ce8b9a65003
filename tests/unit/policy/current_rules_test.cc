// Facts about replacing rules: readers see whole lists, counts follow texts, and an empty list is none.
#include "policy/current_rules.h"

#include <gtest/gtest.h>

#include <thread>

namespace limpid {
namespace {

std::vector<Rule> rules(std::initializer_list<std::string_view> texts) {
  std::vector<Rule> parsed;
  for (const std::string_view text : texts) parsed.push_back(parse_rule(text, {}).value());
  return parsed;
}

TEST(CurrentRules, a_rule_that_stays_keeps_its_count) {
  CurrentRules current(rules({"ech -> drop", "otherwise -> direct"}));
  current.current()->count(1);
  current.current()->count(1);
  current.replace(rules({"otherwise -> direct", "dport(80) -> drop"}));
  EXPECT_EQ(current.current()->hits(0), 2U);
  EXPECT_EQ(current.current()->hits(1), 0U);
}

TEST(CurrentRules, readers_follow) {
  const auto current = std::make_shared<CurrentRules>(rules({}));
  RuleReader reader(current);
  EXPECT_EQ(reader.rules(), nullptr) << "an empty list is none";
  current->replace(rules({"time(08:00-18:00) -> drop"}));
  ASSERT_NE(reader.rules(), nullptr);
  EXPECT_TRUE(reader.rules()->looks_at_time());
  const auto* before = reader.rules();
  EXPECT_EQ(reader.rules(), before) << "nothing was replaced";
  current->replace(rules({"!(dport(80) || time(08:00-18:00)) -> drop", "otherwise -> direct"}));
  EXPECT_EQ(reader.rules()->set().rules().size(), 2U);
  EXPECT_TRUE(reader.rules()->looks_at_time());
  EXPECT_EQ(RuleReader(nullptr).rules(), nullptr);
}

TEST(CurrentRules, are_replaced_while_others_read) {
  const auto current = std::make_shared<CurrentRules>(rules({"dport(1) -> drop"}));
  std::jthread readers([&](const std::stop_token& stopped) {
    RuleReader reader(current);
    while (!stopped.stop_requested()) {
      const auto* at_work = reader.rules();
      ASSERT_NE(at_work, nullptr);
      at_work->count(at_work->set().rules().size() - 1);
    }
  });
  for (int round = 0; round < 500; ++round)
    current->replace(round % 2 == 0 ? rules({"dport(1) -> drop", "dport(2) -> drop"}) : rules({"dport(1) -> drop"}));
}

}  // namespace
}  // namespace limpid
