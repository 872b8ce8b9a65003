// Assumption: `tproxy to` an address where nobody listens leaves the rule, and the packet goes on to the next one
// (nft_tproxy.c: NFT_BREAK). Fail-open is built on it. iptables' TPROXY drops instead.
#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class TproxyWithoutListener : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

TEST_P(TproxyWithoutListener, falls_through_to_forwarding) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, kTproxy);
  const UniqueFd server = listen_plain(network.server, GetParam(), kServerPort);
  const auto client = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  ASSERT_TRUE(client) << why(client.error());
  expect_conversation(*client, accept_within(server));
}

TEST_P(TproxyWithoutListener, a_listener_without_ip_transparent_counts_as_none) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, kTproxy);
  const UniqueFd plain = listen_plain(network.router, GetParam(), kListener);
  const UniqueFd server = listen_plain(network.server, GetParam(), kServerPort);
  const auto client = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  ASSERT_TRUE(client) << why(client.error());
  expect_conversation(*client, accept_within(server));
}

INSTANTIATE_TEST_SUITE_P(Families, TproxyWithoutListener, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
