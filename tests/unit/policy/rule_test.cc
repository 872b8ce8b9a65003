// Facts about rules: what their text means, what is wrong with a text and where, which rule decides, and what can never match.
#include "policy/rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "policy/rule_boxes.h"
#include "policy/rule_set.h"
#include "tests/unit/policy/wrong_rules.h"

namespace limpid {
namespace {

NamedSets named_sets() {
  NamedSets sets;
  const std::vector<Prefix> lan{Prefix::parse("192.168.0.0/16").value(), Prefix::parse("fd00::/8").value()};
  sets.addresses["lan"] = std::make_shared<const RangeSet>(std::span(lan));
  DomainSet::Builder builder;
  EXPECT_TRUE(builder.add(DomainMatch::suffix, "ads.example"));
  sets.domains["ads"] = std::make_shared<const DomainSet>(std::move(builder).build().value());
  return sets;
}

Rule rule(std::string_view text) {
  auto parsed = parse_rule(text, named_sets());
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message());
  return parsed ? std::move(*parsed) : Rule{};
}

RuleSet rules(std::initializer_list<std::string_view> texts) {
  std::vector<Rule> all;
  for (const auto text : texts) all.push_back(rule(text));
  return RuleSet(std::move(all));
}

FlowFacts flow(const char* client, const char* destination, Transport transport = Transport::tcp) {
  return {.transport = transport,
          .client = SocketAddress::parse(client).value(),
          .destination = SocketAddress::parse(destination).value(),
          .time = {},
          .first_bytes = {}};
}

FlowFacts with_name(FlowFacts facts, std::string_view name, AppProtocol protocol = AppProtocol::tls, bool ech = false) {
  facts.first_bytes = FirstBytes{.protocol = protocol, .name = name, .ech = ech};
  return facts;
}

const FlowFacts kFlow = flow("192.168.7.2:40000", "198.51.100.2:443");

TEST(Rule, of_the_documentation_are_read) {
  EXPECT_EQ(rule("dst(10.0.0.0/8) -> bypass").action, FlowAction::bypass);
  EXPECT_EQ(rule("domain(suffix: example.com) && dport(443) -> via(office)").group, "office");
  EXPECT_EQ(rule("src(192.168.7.0/24) && proto(udp) && dport(443) -> reject").action, FlowAction::reject);
  EXPECT_EQ(rule("otherwise -> direct").action, FlowAction::direct);
  EXPECT_EQ(rule("dst(@lan) -> target([2001:db8::1]:80)").target->to_string(), "[2001:db8::1]:80");
  EXPECT_EQ(rule("  app(ssh,unknown)||ech->drop ").text, "app(ssh,unknown)||ech->drop");
}

TEST(Rule, conditions_look_at_the_facts_that_they_name) {
  const auto met = [](std::string_view text, const FlowFacts& facts) {
    return evaluate(rule(std::string(text) + " -> drop").condition, facts);
  };
  EXPECT_EQ(met("src(@lan)", kFlow), Truth::yes);
  EXPECT_EQ(met("dst(@lan)", kFlow), Truth::no);
  EXPECT_EQ(met("dst(10.0.0.0/8, @lan, 198.51.100.0/24)", kFlow), Truth::yes);
  EXPECT_EQ(met("src(fd00::/8)", flow("[fd00::1]:1", "[2001:db8::1]:443")), Truth::yes);
  EXPECT_EQ(met("dst(::/0)", kFlow), Truth::no) << "all of IPv6 is nothing of IPv4";
  EXPECT_EQ(met("!src(::/0)", kFlow), Truth::yes);
  EXPECT_EQ(met("dst(::/0)", flow("[fd00::1]:1", "[2001:db8::1]:443")), Truth::yes);
  EXPECT_EQ(met("sport(40000)", kFlow), Truth::yes);
  EXPECT_EQ(met("dport(80,440-444)", kFlow), Truth::yes);
  EXPECT_EQ(met("dport(80)", kFlow), Truth::no);
  EXPECT_EQ(met("proto(udp)", kFlow), Truth::no);
  EXPECT_EQ(met("!proto(udp)", kFlow), Truth::yes);
  EXPECT_EQ(met("domain(suffix: example.com, @ads)", with_name(kFlow, "x.ads.example")), Truth::yes);
  EXPECT_EQ(met("domain(example.com)", with_name(kFlow, "www.example.com")), Truth::no);
  EXPECT_EQ(met("domain(keyword:amp, regex: \"^(a|b)[.]\")", with_name(kFlow, "b.test")), Truth::yes);
  EXPECT_EQ(met("domain(example.com)", kFlow), Truth::unknown);
  EXPECT_EQ(met("!domain(example.com)", kFlow), Truth::unknown);
  EXPECT_EQ(met("app(tls)", with_name(kFlow, "")), Truth::yes);
  EXPECT_EQ(met("app(unknown)", with_name(kFlow, "", AppProtocol::unknown)), Truth::yes);
  EXPECT_EQ(met("ech", with_name(kFlow, "cover.example", AppProtocol::tls, true)), Truth::yes);
}

TEST(Rule, times_may_run_over_midnight_and_over_the_week) {
  const auto at = [](std::string_view text, unsigned day, unsigned hour, unsigned minute) {
    FlowFacts facts = kFlow;
    facts.time = {static_cast<std::uint16_t>(day * 1440 + hour * 60 + minute)};
    return evaluate(rule(std::string(text) + " -> drop").condition, facts) == Truth::yes;
  };
  EXPECT_TRUE(at("time(08:00-18:00)", 6, 8, 0));
  EXPECT_TRUE(at("time(08:00-18:00)", 0, 17, 59));
  EXPECT_FALSE(at("time(08:00-18:00)", 0, 18, 0));
  EXPECT_FALSE(at("time(mon-fri 08:00-18:00)", 5, 12, 0));
  EXPECT_TRUE(at("time(sun 22:00-06:00)", 6, 23, 0));
  EXPECT_TRUE(at("time(sun 22:00-06:00)", 0, 5, 59));
  EXPECT_FALSE(at("time(sun 22:00-06:00)", 0, 22, 0));
  EXPECT_TRUE(at("time(sat-mon 00:00-24:00)", 0, 23, 59));
  EXPECT_FALSE(at("time(sat-mon 00:00-24:00)", 1, 0, 0));
}

TEST(Rule, the_first_that_matches_decides) {
  const auto list =
      rules({"dst(198.51.100.0/24) && dport(22) -> reject", "src(@lan) -> via(office)", "otherwise -> direct"});
  EXPECT_EQ(list.decide(flow("192.168.7.2:1", "198.51.100.2:22")).number, 0U);
  EXPECT_EQ(list.decide(kFlow).number, 1U);
  EXPECT_EQ(list.decide(flow("203.0.113.9:1", "198.51.100.2:443")).number, 2U);
  EXPECT_EQ(rules({"dport(1) -> drop"}).decide(kFlow).rule, nullptr);
}

TEST(Rule, names_are_asked_for_only_where_a_decision_depends_on_them) {
  const auto list = rules({"dst(10.0.0.0/8) && domain(suffix: example.com) -> drop",
                           "dport(443) && domain(suffix: example.com) -> via(office)", "otherwise -> direct"});
  EXPECT_TRUE(list.decide(kFlow).needs_first_bytes());
  EXPECT_EQ(list.decide(kFlow).number, 1U);
  EXPECT_FALSE(list.decide(flow("192.168.7.2:1", "198.51.100.2:80")).needs_first_bytes());
  EXPECT_EQ(list.decide(with_name(kFlow, "www.example.com")).number, 1U);
  EXPECT_EQ(list.decide(with_name(kFlow, "www.example.net")).number, 2U);
  EXPECT_TRUE(list.looks_at_first_bytes());
  EXPECT_FALSE(rules({"dport(443) || src(@lan) -> drop"}).looks_at_first_bytes());
}

TEST(Rule, a_wrong_text_names_the_column_and_the_remedy) {
  expect_refused({{"dsst(10.0.0.0/8) -> drop", "column 1: there is no condition 'dsst'", "did you mean dst?"},
                  {"dst(10.0.0.1/8) -> drop", "column 5: '10.0.0.1/8': bits behind", "did you mean 10.0.0.0/8?"},
                  {"dst(@nowhere) -> drop", "column 5: there is no set 'nowhere'", "[sets]"},
                  {"dst(@ads) -> drop", "column 5: set 'ads' holds no addresses", "domain(@ads)"},
                  {"domain(@lan) -> drop", "column 8: set 'lan' holds no domains", "dst(@lan)"},
                  {"dport(0) -> drop", "column 7: '0' is not a port", "1 to 65535"},
                  {"dport(80) -> dorp", "column 14: there is no action 'dorp'", "did you mean drop?"},
                  {"dport(80) drop", "column 11: an action is missing", "-> direct"},
                  {"dport(80) & proto(tcp) -> drop", "column 11: '&' alone", "&&"},
                  {"dport(80 -> drop", "column 10: a bracket is not closed", "add )"},
                  {"(dport(80) -> drop", "column 12: a bracket is not closed", "add )"},
                  {"dport() -> drop", "column 7: something is missing", ""},
                  {"dport -> drop", "column 7: dport needs something in brackets", "dport(…)"},
                  {"proto(icmp) -> drop", "column 7: 'icmp' is not intercepted", "tcp or udp"},
                  {"proto(tcp, udp) -> drop", "column 12: proto takes one", ""},
                  {"domain(prefix: x) -> drop", "column 16: 'prefix:' is no way", "suffix:"},
                  {"domain(regex: \"(\") -> drop", "column 15: '('", "RE2"},
                  {"domain(\"a) -> drop", "column 8: the quotation has no end", "\""},
                  {"time(8-18) -> drop", "column 6: '8-18' is no time", "08:00-18:00"},
                  {"time(man 08:00-18:00) -> drop", "column 6: 'man' are no days", "mon-fri"},
                  {"app(smtp) -> drop", "column 5: 'smtp' is not recognised", "tls"},
                  {"otherwise && dport(1) -> drop", "column 11: an action is missing", ""},
                  {"dport(1) && otherwise -> drop", "column 13: 'otherwise' stands alone", ""},
                  {"otherwise -> target(192.0.2.1)", "column 21: '192.0.2.1' is not an address with a port", ":80"},
                  {"otherwise -> drop(1)", "column 18: drop takes nothing", "write drop"},
                  {"otherwise -> drop drop", "column 19: something follows", ""},
                  {"   ", "column 1: it is empty", ""},
                  {"dport(80)\n-> drop", "column 10: byte 0x0a", ""}},
                 named_sets());
  EXPECT_FALSE(parse_rule(std::string(10'000, '!') + "ech -> drop", {}));
  EXPECT_FALSE(parse_rule(std::string(10'000, '('), {}));
}

/// A random condition, as text.
std::string random_condition(std::mt19937& random, unsigned depth) {
  const auto one_of = [&](std::initializer_list<const char*> texts) {
    return std::string(*(texts.begin() + random() % texts.size()));
  };
  if (depth == 0 || random() % 4 == 0) {
    return one_of({"dst(198.51.100.0/24)", "dst(198.51.100.2, 2001:db8::/32)", "src(@lan)", "src(192.168.7.0/24)",
                   "dport(443)", "dport(80,443)", "sport(1-1000)", "proto(tcp)", "proto(udp)", "time(08:00-18:00)",
                   "domain(suffix: example.com)", "app(tls)", "ech"});
  }
  switch (random() % 3) {
    case 0: return "!" + ("(" + random_condition(random, depth - 1) + ")");
    case 1: return "(" + random_condition(random, depth - 1) + " && " + random_condition(random, depth - 1) + ")";
    default: return "(" + random_condition(random, depth - 1) + " || " + random_condition(random, depth - 1) + ")";
  }
}

FlowFacts random_flow(std::mt19937& random) {
  const auto one_of = [&](std::initializer_list<const char*> texts) {
    return *(texts.begin() + random() % texts.size());
  };
  FlowFacts facts = flow(one_of({"192.168.7.2:40000", "192.168.8.2:999", "[fd00::1]:5", "203.0.113.9:40000"}),
                         one_of({"198.51.100.2:443", "198.51.100.3:80", "[2001:db8::1]:443", "203.0.113.10:25"}),
                         random() % 2 == 0 ? Transport::tcp : Transport::udp);
  facts.time = {static_cast<std::uint16_t>(random() % 10080)};
  return facts;
}

const FirstBytes kFirstBytes[] = {{AppProtocol::tls, "www.example.com", false}, {AppProtocol::tls, "example.net", true},
                                  {AppProtocol::tls, "www.example.com", true},  {AppProtocol::tls, "", false},
                                  {AppProtocol::http, "example.com", false},    {AppProtocol::unknown, "", false},
                                  {AppProtocol::http, "x.test", false}};

bool in_box(const RuleBox& box, const FlowFacts& facts) {
  return box.source.contains(to_wide(facts.client.address)) &&
         box.destination.contains(to_wide(facts.destination.address)) &&
         box.source_ports.contains(facts.client.port.value) &&
         box.destination_ports.contains(facts.destination.port.value) &&
         (facts.transport == Transport::tcp ? box.tcp : box.udp) && box.minutes.contains(facts.time.value);
}

TEST(Rule, unknown_means_that_first_bytes_could_change_it_and_boxes_agree_with_evaluation) {
  std::mt19937 random(42);
  int unknown = 0;
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_condition(random, 4);
    const Rule made = rule(text + " -> drop");
    const auto boxes = boxes_of(made.condition);
    for (int i = 0; i < 10; ++i) {
      FlowFacts facts = random_flow(random);
      const Truth before = evaluate(made.condition, facts);
      bool can_match = false;
      for (const FirstBytes& bytes : kFirstBytes) {
        facts.first_bytes = bytes;
        const Truth after = evaluate(made.condition, facts);
        ASSERT_NE(after, Truth::unknown) << text;
        if (before != Truth::unknown) {
          ASSERT_EQ(after, before) << text;
        }
        can_match = can_match || after == Truth::yes;
      }
      if (before == Truth::unknown) ++unknown;
      if (!boxes) continue;
      const bool surely =
          std::ranges::any_of(*boxes, [&](const RuleBox& box) { return box.depends_on.empty() && in_box(box, facts); });
      const bool perhaps = std::ranges::any_of(*boxes, [&](const RuleBox& box) { return in_box(box, facts); });
      if (before == Truth::yes) {
        ASSERT_TRUE(perhaps) << text;
      }
      if (can_match) {
        ASSERT_TRUE(perhaps) << text;
      }
      if (surely) {
        ASSERT_EQ(before, Truth::yes) << text;
      }
      if (before == Truth::no) {
        ASSERT_FALSE(surely) << text;
      }
    }
  }
  EXPECT_GT(unknown, 1000);
}

std::vector<RuleFlaw> flaws(std::initializer_list<std::string_view> texts) {
  std::vector<Rule> all;
  for (const auto text : texts) all.push_back(rule(text));
  return find_flaws(all);
}

TEST(Rule, what_can_never_match_is_named_with_its_cause) {
  auto found = flaws({"dst(10.0.0.0/8) -> drop", "dst(10.1.0.0/16) && dport(80) -> direct", "otherwise -> direct"});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].rule, 1U);
  EXPECT_TRUE(found[0].never_matches);
  EXPECT_NE(found[0].cause.find("rule 1 (\"dst(10.0.0.0/8) -> drop\")"), std::string::npos);

  found = flaws({"dport(80) && dport(443) -> drop", "otherwise -> direct"});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_NE(found[0].cause.find("contradict"), std::string::npos);

  found = flaws({"otherwise -> direct", "dport(80) -> drop"});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].rule, 1U);

  found = flaws({"proto(tcp) -> drop", "proto(udp) -> drop", "dport(53) -> direct", "otherwise -> direct"});
  EXPECT_TRUE(found.empty() || found[0].rule != 2) << "only single rules are compared";
}

TEST(Rule, what_may_match_is_not_blamed) {
  EXPECT_TRUE(
      flaws({"domain(suffix: example.com) -> drop", "domain(suffix: www.example.com) -> direct", "otherwise -> direct"})
          .empty());
  EXPECT_TRUE(flaws({"dst(10.0.0.0/8) && ech -> drop", "dst(10.0.0.0/8) -> direct", "otherwise -> direct"}).empty());
  EXPECT_TRUE(
      flaws({"time(08:00-18:00) && dst(10.0.0.0/8) -> drop", "dst(10.0.0.0/8) -> direct", "otherwise -> direct"})
          .empty());
  const auto open = flaws({"dst(10.0.0.0/8) -> drop"});
  ASSERT_EQ(open.size(), 1U);
  EXPECT_FALSE(open[0].never_matches);
}

TEST(RuleSet, waits_for_the_name_by_which_a_flow_goes) {
  const RuleSet list = rules({"dport(80) -> direct", "dport(443) -> direct(by-name: yes)",
                              "dport(853) -> via(office, by-name: yes)", "otherwise -> direct(by-name: no)"});
  EXPECT_TRUE(list.looks_at_first_bytes());
  EXPECT_TRUE(list.decide(kFlow).needs_first_bytes());
  EXPECT_EQ(list.decide(kFlow).number, 1U);
  const RuleVerdict named = list.decide(with_name(kFlow, "www.example"));
  EXPECT_TRUE(named.missing.empty());
  EXPECT_TRUE(named.rule->goes_by_name());
  EXPECT_TRUE(list.decide(with_name(kFlow, "", AppProtocol::unknown)).missing.empty()) << "there is none to wait for";
  EXPECT_FALSE(list.decide(flow("192.168.7.2:1", "198.51.100.2:80")).needs_first_bytes());
  EXPECT_FALSE(list.decide(flow("192.168.7.2:1", "198.51.100.2:81")).needs_first_bytes()) << "by-name: no";
  EXPECT_TRUE(list.decide(flow("192.168.7.2:1", "198.51.100.2:853")).needs_first_bytes());
  EXPECT_TRUE(list.decide(flow("192.168.7.2:1", "198.51.100.2:853", Transport::udp)).needs_first_bytes());
  EXPECT_FALSE(rules({"otherwise -> direct(by-name: no)"}).looks_at_first_bytes());
}

}  // namespace
}  // namespace limpid
