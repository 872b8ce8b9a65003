// Assumption: `reject with tcp reset` works in prerouting (kernel 5.9 and newer): the client sees a refusal at once.
// Fail-closed is built on it.
#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class RejectInPrerouting : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

TEST_P(RejectInPrerouting, the_client_is_refused_at_once) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta l4proto tcp reject with tcp reset");
  add_prerouting(network.router, kTproxy + "tcp dport 80 reject with tcp reset\n");
  const UniqueFd server = listen_plain(network.server, GetParam(), kServerPort);
  const auto client = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ECONNREFUSED);
  EXPECT_FALSE(accept_within(server, Milliseconds(0)).valid());
}

INSTANTIATE_TEST_SUITE_P(Families, RejectInPrerouting, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
