// Assumption: `tproxy to` a transparent listener on the loopback address gives it connections that were addressed to
// somebody else; the accepted socket's local address is what the client dialled, and nobody can reach the listener
// itself from outside.
#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class TproxyToLoopback : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

TEST_P(TproxyToLoopback, accepts_with_the_original_destination_as_local_address) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, kDivert + kTproxy);
  const UniqueFd proxy = listen_transparent_in(network.router, GetParam(), kListener);
  const auto client = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  ASSERT_TRUE(client) << why(client.error());
  const UniqueFd accepted = accept_within(proxy);
  ASSERT_TRUE(accepted.valid());
  EXPECT_EQ(original_destination(accepted.get()).value(), at(server_address(GetParam()), kServerPort));
  EXPECT_EQ(peer_address(accepted.get()).value().address, at(client_address(GetParam()), 0).address);
  EXPECT_EQ(peer_address(client->get()).value(), at(server_address(GetParam()), kServerPort));
  expect_conversation(*client, accepted);
}

TEST_P(TproxyToLoopback, leaves_the_listener_unreachable_from_the_network) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, kDivert + kTproxy);
  const UniqueFd proxy = listen_transparent_in(network.router, GetParam(), kListener);
  const std::string_view router = GetParam() == Family::ipv4 ? "192.0.2.1" : "2001:db8:1::1";
  const auto client = connect_plain(network.client, at(router, kListener));
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ECONNREFUSED);
  EXPECT_FALSE(accept_within(proxy, Milliseconds(0)).valid());
}

INSTANTIATE_TEST_SUITE_P(Families, TproxyToLoopback, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
