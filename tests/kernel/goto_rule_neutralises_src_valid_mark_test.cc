// Assumption: with src_valid_mark=1, source validation looks the client's address up with the packet's mark and iif lo,
// is told by the marked table that it is local, and drops the packet as martian (fib_validate_source,
// net/ipv4/fib_frontend.c). A rule before it that jumps over the marked table for `iif lo` keeps validation out of it.
// The same rule serves firewalld's IPv6_rpfilter, which asks `fib saddr . mark . iif oif`.
#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

using ReversePath = NamespaceTest;

bool is_intercepted(const Network& network, Family family) {
  const UniqueFd proxy = listen_transparent_in(network.router, family, kListener);
  const auto client = connect_plain(network.client, at(server_address(family), kServerPort), kSilence);
  if (!client) return false;
  const UniqueFd accepted = accept_within(proxy);
  if (!accepted.valid()) return false;
  expect_conversation(*client, accepted);
  return true;
}

void set_everywhere(const Network& network, std::string_view name, std::string_view value) {
  for (const std::string_view interface : {"all", "lan", "wan", "lo"}) {
    network.router.set_sysctl("net.ipv4.conf." + std::string(interface) + "." + std::string(name), value);
  }
}

TEST_F(ReversePath, goto_rule_neutralises_src_valid_mark) {
  for (const std::string_view rp_filter : {"0", "1", "2"}) {
    const Network network;
    LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
    route_marked_packets(network.router, true);
    add_prerouting(network.router, kDivert + kTproxy);
    set_everywhere(network, "src_valid_mark", "1");
    set_everywhere(network, "rp_filter", rp_filter);
    EXPECT_TRUE(is_intercepted(network, Family::ipv4)) << "rp_filter=" << rp_filter;
  }
}

TEST_F(ReversePath, without_it_intercepted_packets_are_martians) {
  for (const std::string_view rp_filter : {"1", "2"}) {
    const Network network;
    LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
    route_marked_packets(network.router, false);
    add_prerouting(network.router, kDivert + kTproxy);
    set_everywhere(network, "rp_filter", rp_filter);
    EXPECT_TRUE(is_intercepted(network, Family::ipv4)) << "rp_filter alone disturbs nothing";
    set_everywhere(network, "src_valid_mark", "1");
    EXPECT_FALSE(is_intercepted(network, Family::ipv4)) << "rp_filter=" << rp_filter;
  }
}

// What firewalld installs with IPv6_rpfilter=yes, its default: after us, so it sees our mark.
void add_firewalld_filter(const Network& network) {
  network.router.nft(
      "table inet firewalld {\n chain filter_PREROUTING {\n  type filter hook prerouting priority mangle + 10;\n"
      "  icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept\n"
      "  meta nfproto ipv6 fib saddr . mark . iif oif missing drop\n }\n}\n");
}

TEST_F(ReversePath, goto_rule_satisfies_firewalls_that_check_with_the_mark) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv6 fib saddr . mark . iif oif missing drop");
  route_marked_packets(network.router, true);
  add_prerouting(network.router, kDivert + kTproxy);
  add_firewalld_filter(network);
  EXPECT_TRUE(is_intercepted(network, Family::ipv6));
}

TEST_F(ReversePath, without_it_such_firewalls_drop_intercepted_packets) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv6 fib saddr . mark . iif oif missing drop");
  route_marked_packets(network.router, false);
  add_prerouting(network.router, kDivert + kTproxy);
  add_firewalld_filter(network);
  EXPECT_FALSE(is_intercepted(network, Family::ipv6));
}

}  // namespace
}  // namespace limpid::testbed
