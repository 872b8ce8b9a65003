// Assumption: when loopback goes down, IPv6 loses the local route that delivers intercepted packets, and gets no new
// one; IPv4 keeps it and goes on. A plan would be installed by half, so installing requires loopback to be up.
#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class LoopbackDown : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

TEST_P(LoopbackDown, ends_delivery_for_ipv6_only) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, kDivert + kTproxy);
  const UniqueFd proxy = listen_transparent_in(network.router, GetParam(), kListener);
  network.router.command("iproute2", {"ip", "link", "set", "lo", "down"});
  const bool delivered =
      connect_plain(network.client, at(server_address(GetParam()), kServerPort), kSilence).has_value();
  EXPECT_EQ(delivered, GetParam() == Family::ipv4);
}

INSTANTIATE_TEST_SUITE_P(Families, LoopbackDown, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
