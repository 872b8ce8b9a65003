// Assumption: a client that dials again from the same port while our socket is in TIME_WAIT is accepted at once if its
// SYN goes to tproxy, which hands it to the listener (nf_tproxy_handle_time_wait4). If the divert rule takes it, the
// TIME_WAIT socket finds no listener on the address that was dialled (tcp_v4_rcv, TCP_TW_SYN) and answers with an old
// acknowledgement; then all depends on the client, which must send a RST that arrives and try again. Linux does so at
// once; others wait seconds. So divert leaves SYNs alone.
#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class SynToTimeWait : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

constexpr std::uint16_t kSourcePort = 45678;

/// Leaves a TIME_WAIT socket at the proxy (which closes first), then dials again from the same port.
Result<UniqueFd> dial_again(const Network& network, Family family, const UniqueFd& proxy) {
  // This client sends no RST.
  network.client.nft(
      "table inet c {\n chain output {\n  type filter hook output priority filter;\n"
      "  tcp flags & rst == rst drop\n }\n}\n");
  const SocketAddress target = at(server_address(family), kServerPort);
  {
    const auto client = must(connect_plain(network.client, target, kPatience, kSourcePort), "dial");
    UniqueFd accepted = accept_within(proxy);
    accepted.reset();
    EXPECT_EQ(receive_text(client), "");
  }
  return connect_plain(network.client, target, kSilence, kSourcePort);
}

TEST_P(SynToTimeWait, reopens_when_divert_leaves_syns_to_tproxy) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, "tcp flags & (fin | syn | rst | ack) != syn " + kDivert + kTproxy);
  const UniqueFd proxy = listen_transparent_in(network.router, GetParam(), kListener);
  const auto client = dial_again(network, GetParam(), proxy);
  ASSERT_TRUE(client) << why(client.error());
  expect_conversation(*client, accept_within(proxy));
}

TEST_P(SynToTimeWait, stalls_when_divert_takes_the_syn_and_the_client_does_not_help) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1");
  route_marked_packets(network.router);
  add_prerouting(network.router, kDivert + kTproxy);
  const UniqueFd proxy = listen_transparent_in(network.router, GetParam(), kListener);
  EXPECT_FALSE(dial_again(network, GetParam(), proxy));
}

INSTANTIATE_TEST_SUITE_P(Families, SynToTimeWait, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
