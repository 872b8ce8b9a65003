// Facts about comparing rules: what contradicts itself, what an earlier rule takes, and that many rules are compared as few are.
#include "policy/rule_boxes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "policy/box_order.h"

namespace limpid {
namespace {

Rule rule(std::string_view text) {
  auto parsed = parse_rule(text, {});
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message());
  return parsed ? std::move(*parsed) : Rule{};
}

bool is_contradictory(const std::string& condition) {
  return boxes_of(rule(condition + " -> drop").condition).value().empty();
}

/// Whether the second can never match behind the first.
bool takes(const std::string& first, const std::string& second) {
  const auto flaws = find_flaws({rule(first + " -> drop"), rule(second + " -> direct"), rule("otherwise -> direct")});
  return std::ranges::any_of(flaws, [](const RuleFlaw& flaw) { return flaw.rule == 1 && flaw.never_matches; });
}

TEST(RuleBoxes, conditions_that_contradict_each_other_are_found) {
  for (const char* condition :
       {"iif(a) && iif(b)", "uid(1) && uid(2)", "gid(1) && gid(2-9)", "proto(tcp) && proto(udp)",
        "mac(52:54:00:12:34:56) && mac(52:54:00:12:34:57)", "dscp(ef) && dscp(be)", "cgroup(/a) && cgroup(/b)",
        "process(curl) && process(wget)", "process(/bin/curl) && process(/usr/bin/curl)", "app(tls) && app(http)",
        "ech && !ech", "domain(a.example) && !domain(a.example)", "iif(a) && !iif(a, b)", "cgroup(/a/b) && !cgroup(/a)",
        "process(/bin/curl) && !process(curl)", "uid(1-9) && !uid(0-20)", "uid(0-4294967295) && !uid(0-4294967295)"}) {
    EXPECT_TRUE(is_contradictory(condition)) << condition;
  }
}

TEST(RuleBoxes, conditions_that_may_hold_together_are_left_alone) {
  for (const char* condition :
       {"iif(a) && iif(a, b)", "iif(a) || iif(b)", "uid(1) && gid(2)", "!iif(a) && !iif(b)", "!uid(0-4294967295)",
        "cgroup(/a) && cgroup(/a/b)", "cgroup(/a) && !cgroup(/a/b)", "cgroup(/a) && !cgroup(/ab)",
        "process(curl) && process(/usr/bin/curl)", "process(curl) && !process(/usr/bin/curl)",
        "!app(tls) && !app(http)", "domain(a.example) && domain(suffix: example)",
        "domain(keyword: a) && !domain(regex: a)", "dscp(ef) && !dscp(be)"}) {
    EXPECT_FALSE(is_contradictory(condition)) << condition;
  }
}

TEST(RuleBoxes, a_condition_that_an_earlier_rule_has_can_never_be_met) {
  for (const auto& [first, second] :
       std::vector<std::pair<std::string, std::string>>{{"iif(a)", "iif(a)"},
                                                        {"iif(a, b)", "iif(b)"},
                                                        {"iif(a)", "iif(a) && dport(80)"},
                                                        {"!iif(a)", "iif(b)"},
                                                        {"!iif(a)", "!iif(a, b)"},
                                                        {"uid(1-9)", "uid(2) && dst(10.0.0.0/8)"},
                                                        {"cgroup(/a)", "cgroup(/a/b)"},
                                                        {"process(curl)", "process(/usr/bin/curl)"},
                                                        {"app(tls, http)", "app(http)"},
                                                        {"domain(a.example)", "domain(a.example)"},
                                                        {"domain(a.example)", "domain(a.example) && ech"},
                                                        {"!ech", "!ech && iif(a)"},
                                                        {"dscp(ef, be)", "dscp(be)"}}) {
    EXPECT_TRUE(takes(first, second)) << first << ", then " << second;
  }
  for (const auto& [first, second] :
       std::vector<std::pair<std::string, std::string>>{{"iif(a)", "iif(b)"},
                                                        {"iif(b)", "iif(a, b)"},
                                                        {"iif(a)", "dport(80)"},
                                                        {"!iif(a)", "!iif(b)"},
                                                        {"!iif(a, b)", "!iif(a)"},
                                                        {"cgroup(/a/b)", "cgroup(/a)"},
                                                        {"!cgroup(/a/b)", "!cgroup(/a)"},
                                                        {"process(/usr/bin/curl)", "process(curl)"},
                                                        {"app(tls)", "app(tls, http)"},
                                                        {"domain(a.example) && ech", "domain(a.example)"},
                                                        {"domain(keyword: a)", "domain(regex: a)"},
                                                        {"uid(0-4294967295)", "!uid(0)"}}) {
    if (first == "!cgroup(/a/b)") {
      EXPECT_TRUE(takes(first, second));  // what is not below /a is not below /a/b
    } else {
      EXPECT_FALSE(takes(first, second)) << first << ", then " << second;
    }
  }
}

TEST(RuleBoxes, messages_number_rules_as_they_are_written) {
  const std::vector<std::size_t> numbers{2, 5, 6};
  const auto flaws =
      find_flaws({rule("dport(80) -> drop"), rule("dport(80) -> direct"), rule("otherwise -> direct")}, numbers);
  ASSERT_EQ(flaws.size(), 1U);
  EXPECT_EQ(flaws[0].rule, 1U);
  EXPECT_NE(flaws[0].cause.find("rule 2 "), std::string::npos) << flaws[0].cause;
  EXPECT_NE(flaws[0].remedy.find("rule 2"), std::string::npos) << flaws[0].remedy;
}

/// Of few addresses and ports, so that many of them have to do with each other.
std::string random_condition(std::mt19937& random) {
  const auto pick = [&](int most) { return std::uniform_int_distribution(0, most)(random); };
  const auto test = [&]() -> std::string {
    const std::string sign = pick(4) == 0 ? "!" : "";
    switch (pick(6)) {
      case 0: {
        const int wider = pick(2);
        return fmt::format("{}dst(10.0.{}.0/{})", sign, pick(3) << wider, 24 - wider);
      }
      case 1: {
        const int wider = pick(2);
        return fmt::format("{}src(192.0.2.{}/{})", sign, pick(3) << wider, 32 - wider);
      }
      case 2: return fmt::format("{}dport({}-{})", sign, 80 + pick(2), 82 + pick(2));
      case 3: return pick(1) == 0 ? "proto(tcp)" : "proto(udp)";
      case 4: return fmt::format("{}domain(a{}.example)", sign, pick(1));
      case 5: return fmt::format("{}iif(a{})", sign, pick(1));
      default: return fmt::format("{}sport({})", sign, 1000 + pick(1));
    }
  };
  std::string condition = test();
  for (int more = pick(2); more > 0; --more) condition += (pick(2) == 0 ? " || " : " && ") + test();
  return condition;
}

TEST(RuleBoxes, the_order_finds_what_looking_at_each_finds) {
  std::mt19937 random(20);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same every time
  for (int round = 0; round < 60; ++round) {
    BoxOrder order(1'000'000);
    std::vector<std::pair<RuleBox, std::size_t>> all;
    for (std::size_t number = 0; number < 40; ++number) {
      // Every third only asks, so that some find nothing.
      const auto boxes = boxes_of(rule(random_condition(random) + " -> drop").condition).value();
      for (const RuleBox& box : boxes) {
        const auto cover = std::ranges::find_if(all, [&](const auto& one) { return one.first.covers(box); });
        const auto meet = std::ranges::find_if(all, [&](const auto& one) { return one.first.meets(box); });
        ASSERT_EQ(order.first_covering(box), cover == all.end() ? std::nullopt : std::optional(cover->second));
        ASSERT_EQ(order.first_meeting(box), meet == all.end() ? std::nullopt : std::optional(meet->second));
        if (number % 3 == 0) continue;
        all.emplace_back(box, number);
        order.add(box, number);
      }
    }
    ASSERT_FALSE(order.is_exhausted());
  }
}

TEST(RuleBoxes, too_many_are_not_compared_and_that_is_said) {
  std::vector<Rule> rules;
  for (int i = 0; i < 200; ++i) rules.push_back(rule(fmt::format("dst(10.0.{}.0/24) -> drop", i)));
  rules.push_back(rule("dst(10.0.3.7) -> direct"));
  rules.push_back(rule("iif(a) && iif(b) -> direct"));
  rules.push_back(rule("otherwise -> direct"));
  const auto whole = find_flaws(rules);
  ASSERT_EQ(whole.size(), 2U);
  EXPECT_EQ(whole[0].rule, 200U);
  const auto bounded = find_flaws(rules, {}, 1000);
  ASSERT_EQ(bounded.size(), 2U);
  EXPECT_FALSE(bounded[0].never_matches);
  EXPECT_NE(bounded[0].cause.find("too many"), std::string::npos);
  EXPECT_EQ(bounded[1].rule, 201U) << "what contradicts itself is found in any case";
}

}  // namespace
}  // namespace limpid
