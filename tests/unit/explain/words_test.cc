// What Limpid's rules mean in words, from listings of real tables: `--tcp 80,443 --udp 53 --from lan --to-net 198.51.100.0/24 --exclude
// 198.51.100.9 --fail closed`, and `--tcp 80 --local --fail closed`.
#include <fmt/format.h>

#include "recorded_walk.h"

namespace limpid {
namespace {

class Words : public RecordedWalk {
 protected:
  void SetUp() override { install("listing/1"); }
};

TEST_F(Words, a_port_that_is_not_in_scope_names_those_that_are) {
  arrive("192.0.2.2:1000", "198.51.100.2:81");
  policy("prerouting");
  leave();
  EXPECT_EQ(verdict().outcome, Outcome::bypassed);
  EXPECT_EQ(verdict().reason, "the port is not in scope (TCP 80,443); it leaves by wan");
}

TEST_F(Words, datagrams_are_judged_where_they_are_selected) {
  arrive("192.0.2.2:1000", "198.51.100.2:54", 17);
  policy("datagrams");
  policy("prerouting");
  leave();
  EXPECT_EQ(verdict().reason, "the port is not in scope (UDP 53); it leaves by wan");
}

TEST_F(Words, an_excluded_destination) {
  arrive("192.0.2.2:1000", "198.51.100.9:80");
  match("prerouting", "tcp dport", TraceVerdict::go_to, "scope");
  match("scope", "ip daddr 198.51.100.9", TraceVerdict::accept);
  leave();
  EXPECT_EQ(verdict().reason, "the destination is excluded (--exclude 198.51.100.9); it leaves by wan");
}

TEST_F(Words, a_destination_that_nobody_asked_for) {
  arrive("192.0.2.2:1000", "203.0.113.1:80");
  match("prerouting", "tcp dport", TraceVerdict::go_to, "scope");
  policy("prerouting");
  leave();
  EXPECT_EQ(verdict().reason, "the destination is none of --to-net; it leaves by wan");
}

TEST_F(Words, a_client_that_nobody_asked_for) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  match("prerouting", "tcp dport", TraceVerdict::go_to, "scope");
  match("scope", "ip daddr 198.51.100.0/24", TraceVerdict::go_to, "clients");
  policy("prerouting");
  leave();
  EXPECT_EQ(verdict().reason, "the client is none of --from; it leaves by wan");
}

TEST_F(Words, what_is_captured_is_not_what_leaves) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  match("prerouting", "tcp dport", TraceVerdict::go_to, "scope");
  match("scope", "ip daddr 198.51.100.0/24", TraceVerdict::go_to, "clients");
  match("clients", "iifname", TraceVerdict::go_to, "intercept");
  match("intercept", "meta nfproto ipv4 meta l4proto tcp tproxy", TraceVerdict::accept);
  deliver();
  EXPECT_EQ(verdict().outcome, Outcome::intercepted);
  EXPECT_EQ(verdict().reason, "handed to the listener 127.0.0.1:3129 (tproxy)");
  EXPECT_EQ(verdict().instance, "limpid");
  ASSERT_TRUE(verdict().listener);
  EXPECT_EQ(verdict().listener->value, 3129);
}

TEST_F(Words, a_later_packet_of_a_flow) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  match("prerouting", "tcp flags", TraceVerdict::jump, "divert");
  match("divert", "meta mark set", TraceVerdict::accept);
  deliver();
  EXPECT_EQ(verdict().reason, "it belongs to a flow that is intercepted already: delivered to its socket (divert)");
}

TEST_F(Words, fail_closed_rejects) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  match("prerouting", "tcp dport", TraceVerdict::go_to, "scope");
  match("intercept", "meta l4proto tcp reject", TraceVerdict::drop);
  EXPECT_EQ(verdict().outcome, Outcome::rejected);
  EXPECT_EQ(verdict().reason, "no transparent listener on 127.0.0.1:3129: fail-closed rejects");
}

TEST_F(Words, no_listener_and_no_rejection) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  match("clients", "iifname", TraceVerdict::go_to, "intercept");
  match("prerouting", "tcp dport", TraceVerdict::go_to, "intercept");
  policy("prerouting");
  leave();
  EXPECT_EQ(verdict().reason, "no transparent listener on 127.0.0.1:3129: fail-open leaves it alone; it leaves by wan");
}

TEST_F(Words, this_host_itself) {
  arrive("192.0.2.2:1000", "192.0.2.1:80");
  match("prerouting", "tcp dport", TraceVerdict::go_to, "scope");
  match("scope", "fib daddr type", TraceVerdict::accept);
  deliver();
  EXPECT_EQ(verdict().outcome, Outcome::bypassed);
  EXPECT_EQ(verdict().reason, "the destination is an address of this host's own, where no socket waits for it");
}

TEST_F(Words, its_own_traffic_and_the_other_family) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  match("prerouting", "meta mark & 0x03000000", TraceVerdict::accept);
  leave();
  EXPECT_EQ(verdict().reason, "it carries the bypass mark: the proxy's own traffic; it leaves by wan");
  install("listing/1");
  arrive("[2001:db8:1::2]:1000", "[2001:db8:2::2]:80");
  match("prerouting", "meta nfproto ipv6", TraceVerdict::accept);
  leave();
  EXPECT_EQ(verdict().reason, "IPv6 is not in scope; it leaves by wan");
}

TEST_F(Words, a_rule_that_is_gone_has_a_number) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  rules().add({.family = "ip", .name = "wall"}, {});
  std::vector<TraceEvent> events = {*recorded_event("tcp4-01")};
  TraceEvent event = events.front();
  event.table = "wall";
  event.rule_handle = 77;
  event.verdict = TraceVerdict::drop;
  events.push_back(event);
  const Walk walk = walk_of_packet(events, surroundings());
  EXPECT_EQ(judge(walk, surroundings(), {}).reason, "by inet wall arrival: rule handle 77");
}

TEST_F(Words, the_recorded_probe) {
  install("listing/1");
  std::vector<TraceEvent> events;
  for (int number = 1; number <= 12; ++number) {
    auto event = recorded_event(fmt::format("tcp4-{:02}", number));
    ASSERT_TRUE(event) << number;
    events.push_back(*event);
  }
  ListedRule const end{.handle = events.back().rule_handle, .text = "drop", .comment = std::string(kEndsHere)};
  rules().add({.family = "inet", .name = std::string(kExplainTable)},
              {{std::string(kDeliveryChain), {.hook = "input", .priority = "", .policy = "accept", .rules = {end}}}});
  ProbeMarks probe;
  probe.cookie = *events.front().packet->after_ports;
  const Walk walk = walk_of_probe(events, probe, surroundings());
  EXPECT_EQ(walk.end, End::delivered);
  EXPECT_EQ(judge(walk, surroundings(), {}).reason, "handed to the listener 127.0.0.1:3129 (tproxy)");
  probe.cookie += 1;
  EXPECT_FALSE(walk_of_probe(events, probe, surroundings()).first) << "another's packet";
}

class LocalWords : public RecordedWalk {
 protected:
  void SetUp() override { install("listing/2"); }
};

TEST_F(LocalWords, ports_are_those_of_the_scope) {
  EXPECT_EQ(ports_in_scope(*rules().find({.family = "inet", .name = "limpid"}), 6), "TCP 80");
  EXPECT_EQ(ports_in_scope(*rules().find({.family = "inet", .name = "limpid"}), 17), "");
}

TEST_F(LocalWords, a_program_that_is_in_scope) {
  arrive("192.0.2.2:1000", "198.51.100.2:80");
  match("local_output", "tcp dport", TraceVerdict::go_to, "local_scope");
  policy("local_output");
  leave();
  EXPECT_EQ(verdict().reason, "the destination is none of --to-net; it leaves by wan");
}

}  // namespace
}  // namespace limpid
