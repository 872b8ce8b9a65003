// Assumption: an accepted socket has the listener's SO_MARK, TCP_NODELAY, keepalive and IP_TRANSPARENT: no system call
// per connection sets them again. The mark is on the SYN-ACK already.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class AcceptedSocket : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

int option(const UniqueFd& fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  ::getsockopt(fd.get(), level, name, &value, &length);
  return value;
}

TEST_P(AcceptedSocket, inherits_mark_nodelay_keepalive_and_transparency) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, kDivert + kTproxy);
  // A SYN-ACK without the mark would not get out.
  network.router.nft(
      "table inet o {\n chain output {\n  type filter hook output priority filter;\n"
      "  tcp sport 80 meta mark != 2 drop\n }\n}\n");
  const UniqueFd proxy = listen_transparent_in(
      network.router, GetParam(), kListener,
      {.backlog = 16, .reuse_port = false, .mark = 2, .keepalive_idle = std::chrono::seconds(77)});
  const auto client = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  ASSERT_TRUE(client) << why(client.error());
  const UniqueFd accepted = accept_within(proxy);
  ASSERT_TRUE(accepted.valid());
  EXPECT_EQ(option(accepted, SOL_SOCKET, SO_MARK), 2);
  EXPECT_EQ(option(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 77);
  const bool ipv4 = GetParam() == Family::ipv4;
  EXPECT_EQ(option(accepted, ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_TRANSPARENT : IPV6_TRANSPARENT), 1);
  expect_conversation(*client, accepted);
}

INSTANTIATE_TEST_SUITE_P(Families, AcceptedSocket, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
