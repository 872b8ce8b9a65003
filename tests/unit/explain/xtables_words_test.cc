// What the rules of the iptables backend mean in words: chains as `iptables-nft -t mangle -S` printed them for `--tcp 80 --local --to-net
// 198.51.100.0/24 --exclude 198.51.100.9 --backend iptables-nft`, and messages in the order in which the kernel sent them.
#include "explain/xtables_words.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "explain/verdict.h"

namespace limpid {
namespace {

constexpr std::string_view kRecorded = R"(
-A PREROUTING -j limpid-pre
-A limpid-div -j MARK --set-xmark 0x1000000/0x3000000
-A limpid-div -j ACCEPT
-A limpid-dst -m addrtype --dst-type LOCAL,BROADCAST,ANYCAST,MULTICAST -j RETURN
-A limpid-dst -d 169.254.0.0/16 -j RETURN
-A limpid-dst -d 198.51.100.9/32 -j RETURN
-A limpid-dst -d 198.51.100.0/24 -g limpid-tpx
-A limpid-lo -p tcp -j TPROXY --on-port 37797 --on-ip 127.0.0.1 --tproxy-mark 0x1000000/0x3000000
-A limpid-pre -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket --transparent -g limpid-div
-A limpid-pre -p icmp -m socket --transparent -g limpid-div
-A limpid-pre -m mark --mark 0x2000000/0x3000000 -j RETURN
-A limpid-pre -i lo -m mark --mark 0x3000000/0x3000000 -g limpid-lo
-A limpid-pre -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN
-A limpid-pre -p tcp -m tcp --dport 80 -g limpid-dst
-A limpid-tpx -m recent ! --rcheck --seconds 1 --name limpid --mask 0.0.0.0 --rsource -j RETURN
-A limpid-tpx -p tcp -j TPROXY --on-port 37797 --on-ip 127.0.0.1 --tproxy-mark 0x1000000/0x3000000
)";

class RecordedIptables : public ::testing::Test {
 protected:
  void SetUp() override {
    ListedTable table;
    std::uint64_t handle = 0;
    for (const char* name : {"PREROUTING", "limpid-div", "limpid-dst", "limpid-lo", "limpid-pre", "limpid-tpx"}) {
      for (const std::string& text : parse_iptables_rules(kRecorded, name))
        table[name].rules.push_back({.handle = ++handle, .text = text, .comment = {}});
    }
    table["PREROUTING"].hook = "prerouting";
    rules_.add(kMangle, std::move(table));
    rules_.add(
        {.family = "inet", .name = std::string(kTraceTable)},
        {{std::string(kDeliveryChain), {.hook = "input", .priority = "", .policy = "accept", .rules = {}}},
         {std::string(kDepartureChain), {.hook = "postrouting", .priority = "", .policy = "accept", .rules = {}}}});
    surroundings_.rules = &rules_;
    surroundings_.interfaces = {{2, "lan"}, {3, "wan"}};
    Ownership owner;
    owner.name = "limpid";
    owner.listener.value = 37797;
    owner.backend = Backend::iptables_nft;
    owner.heartbeat = true;
    surroundings_.instances.emplace("limpid", owner);
  }

  void match(const std::string& chain, std::string_view part, TraceVerdict verdict, const std::string& target = {}) {
    TraceEvent event = made("ip", "mangle", chain, TraceKind::rule, verdict);
    for (const ListedRule& rule : rules_.find(kMangle, chain)->rules) {
      if (rule.text.find(part) != std::string::npos) event.rule_handle = rule.handle;
    }
    ASSERT_NE(event.rule_handle, 0U) << part;
    event.target = target;
    events_.push_back(event);
  }
  void arrive(std::string_view to, std::uint8_t protocol = 6) {
    match("PREROUTING", "-j limpid-pre", TraceVerdict::jump, "limpid-pre");
    events_.back().input_interface = 2;
    events_.back().packet = TracedPacket{.source = SocketAddress::parse("192.0.2.2:1000").value(),
                                         .destination = SocketAddress::parse(to).value(),
                                         .protocol = protocol,
                                         .tcp_flags = 2,
                                         .after_ports = {},
                                         .payload = {}};
  }
  void select() { match("limpid-pre", "--dport 80", TraceVerdict::go_to, "limpid-dst"); }
  void policy() { events_.push_back(made("ip", "mangle", "PREROUTING", TraceKind::policy, TraceVerdict::accept)); }
  void end_at(std::string_view chain) {
    TraceEvent event = made("inet", kTraceTable, chain, TraceKind::policy, TraceVerdict::accept);
    event.output_interface = 3;
    event.packet = events_.front().packet;
    events_.push_back(event);
  }
  [[nodiscard]] Verdict verdict() const { return judge(walk_of_packet(events_, surroundings_), surroundings_, {}); }

  static inline const TableKey kMangle{.family = "ip", .name = "mangle"};

 private:
  static TraceEvent made(std::string_view family, std::string_view table, std::string_view chain, TraceKind kind,
                         TraceVerdict verdict) {
    TraceEvent event;
    event.id = 1;
    event.family = family;
    event.table = table;
    event.chain = chain;
    event.kind = kind;
    event.verdict = verdict;
    return event;
  }

  RuleBook rules_;
  Surroundings surroundings_;
  std::vector<TraceEvent> events_;
};

TEST_F(RecordedIptables, what_is_captured_names_instance_and_listener) {
  arrive("198.51.100.2:80");
  select();
  match("limpid-dst", "-d 198.51.100.0/24", TraceVerdict::go_to, "limpid-tpx");
  match("limpid-tpx", "-j TPROXY", TraceVerdict::accept);
  end_at(kDeliveryChain);
  EXPECT_EQ(verdict().outcome, Outcome::intercepted);
  EXPECT_EQ(verdict().reason, "handed to the listener 127.0.0.1:37797 (TPROXY)");
  EXPECT_EQ(verdict().instance, "limpid");
  ASSERT_TRUE(verdict().listener);
  EXPECT_EQ(verdict().listener->value, 37797);
}

TEST_F(RecordedIptables, a_port_that_is_not_in_scope) {
  arrive("198.51.100.2:81");
  policy();
  end_at(kDepartureChain);
  EXPECT_EQ(verdict().reason, "the port is not in scope (TCP 80); it leaves by wan");
}

TEST_F(RecordedIptables, a_protocol_that_is_not_in_scope) {
  arrive("198.51.100.2:80", 17);
  policy();
  end_at(kDepartureChain);
  EXPECT_EQ(verdict().reason, "UDP is not in scope; it leaves by wan");
}

TEST_F(RecordedIptables, an_excluded_destination) {
  arrive("198.51.100.9:80");
  select();
  match("limpid-dst", "-d 198.51.100.9/32", TraceVerdict::leave);
  policy();
  end_at(kDepartureChain);
  EXPECT_EQ(verdict().reason, "the destination is excluded (--exclude 198.51.100.9/32); it leaves by wan");
}

TEST_F(RecordedIptables, a_destination_that_nobody_asked_for) {
  arrive("203.0.113.1:80");
  select();
  policy();
  end_at(kDepartureChain);
  EXPECT_EQ(verdict().reason, "the destination is none of --to-net; it leaves by wan");
}

TEST_F(RecordedIptables, no_heartbeat) {
  arrive("198.51.100.2:80");
  select();
  match("limpid-dst", "-d 198.51.100.0/24", TraceVerdict::go_to, "limpid-tpx");
  match("limpid-tpx", "-m recent", TraceVerdict::leave);
  policy();
  end_at(kDepartureChain);
  EXPECT_EQ(verdict().reason,
            "no heartbeat (no transparent listener on 127.0.0.1:37797, or its `limpid run` or `rules watch` is gone): "
            "fail-open leaves it alone; it leaves by wan");
}

TEST_F(RecordedIptables, a_later_packet_of_a_flow) {
  arrive("198.51.100.2:80");
  match("limpid-pre", "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m socket", TraceVerdict::go_to, "limpid-div");
  match("limpid-div", "-j MARK", TraceVerdict::go_on);
  match("limpid-div", "-j ACCEPT", TraceVerdict::accept);
  end_at(kDeliveryChain);
  EXPECT_EQ(verdict().outcome, Outcome::intercepted);
  EXPECT_EQ(verdict().reason, "it belongs to a flow that is intercepted already: delivered to its socket");
}

TEST_F(RecordedIptables, its_own_traffic) {
  arrive("198.51.100.2:80");
  match("limpid-pre", "0x2000000/0x3000000 -j RETURN", TraceVerdict::leave);
  policy();
  end_at(kDepartureChain);
  EXPECT_EQ(verdict().reason, "it carries the bypass mark: the proxy's own traffic; it leaves by wan");
}

}  // namespace
}  // namespace limpid
