// Why a packet vanished, from what the kernel lets one know; and what is read of listings, counters and command lines.
#include "explain/evidence.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "explain/listing.h"
#include "explain/relay_intent.h"

namespace limpid {
namespace {

Walk vanished(std::string_view from, std::string_view to) {
  Walk walk;
  walk.first = TracedPacket{.source = SocketAddress::parse(from).value(),
                            .destination = SocketAddress::parse(to).value(),
                            .protocol = 6,
                            .tcp_flags = 2,
                            .after_ports = {},
                            .payload = {}};
  walk.last = walk.first;
  walk.arrived_at = "lan";
  walk.last_hook = "prerouting";
  return walk;
}

RouteAnswer refused(int error) {
  RouteAnswer answer;
  answer.error = error;
  return answer;
}

TEST(Evidence, the_reverse_path_filter_names_both_settings_and_the_way_back) {
  Evidence evidence;
  evidence.interface = "lan";
  evidence.drop_reasons = {"IP_RPFILTER"};
  evidence.rp_filter = 1;
  evidence.rp_filter_all = 0;
  RouteAnswer back;
  back.kind = RouteKind::unicast;
  back.device = "wan";
  evidence.way_back = back;
  EXPECT_EQ(explain_loss(vanished("203.0.113.5:1", "198.51.100.2:80"), evidence),
            "the reverse path filter of lan (net.ipv4.conf.lan.rp_filter=1, all=0: the larger counts): the way back to "
            "203.0.113.5 is wan (the kernel says IP_RPFILTER)");
}

TEST(Evidence, without_the_kernels_reasons_its_counters_say_it) {
  Evidence evidence;
  evidence.interface = "lan";
  evidence.forwarding = 1;
  evidence.counters = {{"TcpExt IPReversePathFilter", 1}};
  EXPECT_NE(explain_loss(vanished("203.0.113.5:1", "198.51.100.2:80"), evidence).find("the reverse path filter of lan"),
            std::string::npos);
}

TEST(Evidence, routes_that_refuse) {
  const Walk walk = vanished("192.0.2.2:1", "198.51.100.2:80");
  for (const auto& [error, words] : {std::pair{ENETUNREACH, "no route to 198.51.100.2"},
                                     std::pair{EHOSTUNREACH, "the route to 198.51.100.2 is `unreachable`"},
                                     std::pair{EACCES, "the route to 198.51.100.2 is `prohibit`"},
                                     std::pair{EINVAL, "the route to 198.51.100.2 is `blackhole`"}}) {
    Evidence evidence;
    evidence.interface = "lan";
    evidence.route_as_sent = refused(error);
    EXPECT_EQ(explain_loss(walk, evidence), words);
  }
}

TEST(Evidence, forwarding_that_is_off) {
  Evidence evidence;
  evidence.interface = "lan";
  evidence.forwarding = 0;
  EXPECT_EQ(explain_loss(vanished("192.0.2.2:1", "198.51.100.2:80"), evidence),
            "forwarding is off (sysctl -w net.ipv4.ip_forward=1)");
}

TEST(Evidence, what_is_not_known_is_said) {
  Evidence evidence;
  evidence.interface = "lan";
  evidence.forwarding = 1;
  EXPECT_EQ(explain_loss(vanished("192.0.2.2:1", "198.51.100.2:80"), evidence),
            "behind prerouting, for a reason that the kernel did not tell");
}

TEST(Evidence, counters_in_pairs_of_lines) {
  const auto counters = parse_paired_counters(
      "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 5 7\nIp: InAddrErrors\nIp: 3\nIp: x\n");
  EXPECT_EQ(counters, (DropCounters{{"TcpExt IPReversePathFilter", 7}, {"Ip InAddrErrors", 3}}));
  EXPECT_EQ(rise(counters, {{"Ip InAddrErrors", 5}, {"TcpExt IPReversePathFilter", 7}}),
            (DropCounters{{"Ip InAddrErrors", 2}}));
}

TEST(Evidence, legacy_tables_with_rules_or_a_policy) {
  EXPECT_EQ(parse_legacy_tables(
                "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n*mangle\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n"
                "*raw\n:OUTPUT DROP [0:0]\nCOMMIT\n"),
            (std::vector<std::string>{"mangle", "raw"}));
}

TEST(Listing, rules_over_several_lines_and_comments_with_quotes) {
  const auto table = parse_listing(
      "table ip t { # handle 1\n\tchain c { # handle 2\n\t\ttype filter hook input priority -5; policy drop;\n"
      "\t\tip saddr { 192.0.2.1,\n\t\t\t 192.0.2.2 } drop comment \"a \"b\"\" # handle 3\n\t\tcomment \"\" # handle "
      "x\n\t}\n}\n");
  ASSERT_TRUE(table.contains("c"));
  const ListedChain& chain = table.at("c");
  EXPECT_EQ(chain.hook, "input");
  EXPECT_EQ(chain.priority, "-5");
  EXPECT_EQ(chain.policy, "drop");
  ASSERT_EQ(chain.rules.size(), 1U);
  EXPECT_EQ(chain.rules[0].text, "ip saddr { 192.0.2.1, 192.0.2.2 } drop");
  EXPECT_EQ(chain.rules[0].comment, "a \"b\"");
  ASSERT_NE(chain.find(3), nullptr);
  EXPECT_EQ(chain.find(4), nullptr);
}

TEST(Listing, iptables_own_words) {
  EXPECT_EQ(parse_iptables_rules(
                "-P INPUT ACCEPT\n-N INPUT2\n-A INPUT -p tcp -j DROP\n-A INPUT2 -j ACCEPT\n-A INPUT -j LOG\n", "INPUT"),
            (std::vector<std::string>{"-p tcp -j DROP", "-j LOG"}));
}

TEST(RelayIntent, the_command_line_of_a_limpid) {
  PolicyOptions options;
  EXPECT_TRUE(read_run_arguments(
      std::vector<std::string>{"/usr/sbin/limpid", "run", "--tcp", "80", "--target=192.0.2.9:8080", "--source", "none"},
      Transport::tcp, options));
  EXPECT_EQ(options.source, SourceMode::none);
  ASSERT_TRUE(options.fixed_target);
  EXPECT_EQ(options.fixed_target->to_string(), "192.0.2.9:8080");
  PolicyOptions udp;
  EXPECT_TRUE(read_run_arguments(std::vector<std::string>{"limpid", "run", "--udp", "53"}, Transport::udp, udp));
  EXPECT_EQ(udp.source, SourceMode::prefer_port);
}

TEST(RelayIntent, what_is_not_one_is_not_believed) {
  PolicyOptions options;
  using Arguments = std::vector<std::string>;
  EXPECT_FALSE(read_run_arguments(Arguments{}, Transport::tcp, options));
  EXPECT_FALSE(read_run_arguments(Arguments{"limpid"}, Transport::tcp, options));
  EXPECT_FALSE(read_run_arguments(Arguments{"squid", "run"}, Transport::tcp, options));
  EXPECT_FALSE(read_run_arguments(Arguments{"limpid", "relay", "80"}, Transport::tcp, options));
  EXPECT_FALSE(read_run_arguments(Arguments{"limpid", "run", "--source", "bogus"}, Transport::tcp, options));
  EXPECT_FALSE(read_run_arguments(Arguments{"limpid", "run", "--target", "bogus"}, Transport::tcp, options));
}

}  // namespace
}  // namespace limpid
