// Facts about what rules ask of a client beside its addresses: how it is written, when it is met, and that it is asked for only where a decision depends on it.
#include "policy/client_test.h"

#include <gtest/gtest.h>

#include "policy/rule.h"
#include "policy/rule_boxes.h"
#include "policy/rule_set.h"
#include "tests/unit/policy/wrong_rules.h"

namespace limpid {
namespace {

Rule rule(std::string_view text) {
  auto parsed = parse_rule(text, {});
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message());
  return parsed ? std::move(*parsed) : Rule{};
}

RuleSet rules(std::initializer_list<std::string_view> texts) {
  std::vector<Rule> all;
  for (const auto text : texts) all.push_back(rule(text));
  return RuleSet(std::move(all));
}

FlowFacts flow(const ClientFacts* facts = nullptr) {
  return {.transport = Transport::tcp,
          .client = SocketAddress::parse("192.168.7.2:40000").value(),
          .destination = SocketAddress::parse("198.51.100.2:443").value(),
          .time = {},
          .first_bytes = {},
          .client_facts = facts};
}

ClientFacts all_known() {
  ClientFacts facts;
  for (const Fact fact : {Fact::arrival, Fact::hardware, Fact::user, Fact::cgroup, Fact::process})
    facts.known.add(fact);
  return facts;
}

Truth met(std::string_view condition, const ClientFacts& facts) {
  return evaluate(rule(std::string(condition) + " -> drop").condition, flow(&facts));
}

TEST(ClientTest, each_looks_at_its_fact) {
  ClientFacts facts = all_known();
  facts.interface = "eth0.7";
  facts.dscp = 46;
  facts.mac = MacAddress{0x52, 0x54, 0, 0x12, 0x34, 0x56};
  facts.user = 1000;
  facts.cgroup = "/user.slice/one.scope";
  facts.process = ClientProcess{.group = 100, .executable = "/usr/bin/curl"};
  for (const char* text : {"iif(lan, eth0.7)", "dscp(ef)", "dscp(0,0x2e)", "mac(00:00:00:00:00:01, 52:54:00:12:34:56)",
                           "mac(52:54:00:12:34:56)", "uid(1000)", "uid(0, 900-1100)", "gid(100)", "cgroup(/)",
                           "cgroup(/user.slice)", "cgroup(user.slice/)", "cgroup(/user.slice/one.scope)",
                           "process(curl)", "process(wget, /usr/bin/curl)", "!uid(root)"})
    EXPECT_EQ(met(text, facts), Truth::yes) << text;
  for (const char* text :
       {"iif(eth0)", "dscp(cs5, 45)", "mac(52:54:00:12:34:57)", "uid(0-999,1001)", "gid(1000)", "cgroup(/user)",
        "cgroup(/user.slice/one.scope/deeper)", "process(cur)", "process(bin/curl)", "process(/bin/curl)"}) {
    if (std::string_view(text).contains("bin/curl)") && !std::string_view(text).contains("(/")) {
      EXPECT_FALSE(parse_rule(std::string(text) + " -> drop", {})) << "neither a name nor a whole path";
      continue;
    }
    EXPECT_EQ(met(text, facts), Truth::no) << text;
  }
}

TEST(ClientTest, what_a_client_does_not_have_meets_nothing) {
  const ClientFacts none = all_known();
  for (const char* text :
       {"iif(lo)", "mac(00:00:00:00:00:00)", "uid(0-4294967295)", "gid(0)", "cgroup(/)", "process(curl)"}) {
    EXPECT_EQ(met(text, none), Truth::no) << text;
    EXPECT_EQ(met(std::string("!") + text, none), Truth::yes) << text;
  }
}

TEST(ClientTest, is_asked_for_only_where_a_decision_depends_on_it) {
  const auto list = rules({"dport(80) && process(curl) -> drop", "dport(443) && (iif(lan) || uid(7)) -> drop",
                           "domain(example.com) && mac(02:00:00:00:00:01) -> reject", "otherwise -> direct"});
  const auto first = list.decide(flow());
  EXPECT_EQ(first.number, 1U);
  EXPECT_TRUE(first.needs_client_facts());
  EXPECT_TRUE(first.missing.has(Fact::arrival));
  EXPECT_TRUE(first.missing.has(Fact::user));
  EXPECT_FALSE(first.missing.has(Fact::process)) << "that rule is about another port";
  ClientFacts facts;
  facts.known.add(Fact::arrival);
  facts.known.add(Fact::user);
  const auto second = list.decide(flow(&facts));
  EXPECT_EQ(second.number, 2U);
  EXPECT_TRUE(second.needs_client_facts()) << "what can be asked for comes before waiting for bytes";
  EXPECT_FALSE(second.needs_first_bytes());
  facts.known.add(Fact::hardware);
  facts.mac = MacAddress{2, 0, 0, 0, 0, 1};
  EXPECT_TRUE(list.decide(flow(&facts)).needs_first_bytes());
  facts.mac.reset();
  const auto last = list.decide(flow(&facts));
  EXPECT_EQ(last.number, 3U);
  EXPECT_TRUE(last.missing.empty()) << "then nobody waits for a name";
  EXPECT_TRUE(list.asks_for().has(Fact::process));
  EXPECT_FALSE(rules({"dport(443) -> drop"}).asks_for().has(Fact::arrival));
}

TEST(ClientTest, is_what_rules_are_compared_by) {
  const auto boxes = boxes_of(rule("dport(80) && !uid(0) -> bypass").condition);
  ASSERT_TRUE(boxes && boxes->size() == 1);
  EXPECT_TRUE(boxes->front().depends_on.has(Fact::user));
  EXPECT_TRUE(boxes->front().covers(boxes->front()));
  EXPECT_FALSE(boxes->front().covers(RuleBox{}));
  const auto flaws = find_flaws({rule("uid(0) -> direct"), rule("uid(0) -> drop"), rule("otherwise -> direct")});
  ASSERT_EQ(flaws.size(), 1U) << "whatever is found out about a user, it is the same for both";
  EXPECT_EQ(flaws[0].rule, 1U);
}

TEST(ClientTest, a_wrong_text_names_the_column_and_the_remedy) {
  expect_refused(
      {{"iif(lan*) -> drop", "column 5: \"lan*\" wildcards", "name each"},
       {"iif(\"a b\") -> drop", "column 5: \"a b\" has a character outside", "ip link"},
       {"dscp(64) -> drop", "column 6: '64' is no DSCP", "af11"},
       {"dscp(EF) -> drop", "column 6: 'EF' is no DSCP", "ef"},
       {"mac(52:54:00:12:34) -> drop", "column 5: '52:54:00:12:34' is no MAC address", "52:54:00:12:34:56"},
       {"mac(52-54-00-12-34-56) -> drop", "column 5:", "52:54:00:12:34:56"},
       {"uid(no-such-user-here) -> drop", "column 5: there is no user 'no-such-user-here'", "1000"},
       {"gid(4294967296) -> drop", "column 5: there is no group", "1000"},
       {"uid(9-3) -> drop", "column 5: '9-3' ends before it begins", "1000-1999"},
       {"cgroup(/sys/fs/cgroup/user.slice) -> drop", "column 8:", "0::"},
       {"cgroup(/a/../b) -> drop", "column 8:", "system.slice"},
       {"process(bin/curl) -> drop", "column 9: 'bin/curl' is neither", "/usr/bin/curl"},
       {"proces(curl) -> drop", "column 1: there is no condition 'proces'", "did you mean process?"},
       {"geoip(de) -> drop", "column 7: there is no database", "geoip-database"},
       {"asn(ASX) -> drop", "column 5: 'ASX' is no autonomous system", "AS64496"},
       {"otherwise -> direct(marc: 1)", "column 27: 'marc:' is no option", "mark:"},
       {"otherwise -> direct(mark: 0)", "column 27: '0' is no mark", "0x20"},
       {"otherwise -> direct(mark: 1/1)", "column 27: '1/1' is no mark", "without mask"},
       {"otherwise -> direct(mark:)", "column 26: a value is missing behind mark:", ""},
       {"otherwise -> direct(mark: 1, mark: 2)", "column 36: a second mark", ""},
       {"otherwise -> direct(interface: \"a;b\")", "column 32:", "ip link"},
       {"otherwise -> direct(source: 203.0.113.7:80)", "column 29: '203.0.113.7:80' is no address", "without a port"},
       {"otherwise -> direct(source: 127.0.0.1)", "column 29: '127.0.0.1' cannot be a source", ""},
       {"otherwise -> direct(source: ::ffff:192.0.2.1)", "column 29:", ""},
       {"otherwise -> target(mark: 1)", "column 27: '1' is not an address with a port", ""},
       {"otherwise -> target(192.0.2.1:80, source: 2001:db8::1)", "column 43: the source is not of the target's family",
        ""},
       {"otherwise -> target(192.0.2.1:80, by-name: yes)", "column 44: target says where it goes",
        "direct(by-name: yes)"},
       {"otherwise -> direct(by-name: maybe)", "column 30: 'maybe' is neither yes nor no", "by-name: yes"},
       {"otherwise -> via(upstream, mark: 1)", "column 34: via takes one", ""},
       {"otherwise -> reject(mark: 1)", "column 20: reject takes nothing", ""}},
      {});
}

TEST(LegOptions, stand_behind_direct_and_target) {
  EXPECT_EQ(rule("otherwise -> direct").leg, nullptr);
  const auto direct =
      rule("otherwise -> direct(mark:0x20, interface: wan1, source: 203.0.113.7, source: 2001:db8::7)").leg;
  ASSERT_NE(direct, nullptr);
  EXPECT_EQ(direct->mark, 0x20U);
  EXPECT_EQ(direct->interface, "wan1");
  EXPECT_EQ(direct->source(Family::ipv4)->to_string(), "203.0.113.7");
  EXPECT_EQ(direct->source(Family::ipv6)->to_string(), "2001:db8::7");
  EXPECT_TRUE(direct->routes_otherwise());
  EXPECT_FALSE(direct->by_name);
  const Rule target = rule("otherwise -> target([2001:db8::1]:80, source: 2001:db8::7)");
  EXPECT_EQ(target.target->to_string(), "[2001:db8::1]:80");
  EXPECT_FALSE(target.leg->routes_otherwise()) << "only another source";
}

}  // namespace
}  // namespace limpid
