// Assumption: `socket transparent 1` finds the packets of a connection whose local end is somebody else's address: both
// those of an accepted connection and the replies to one that we opened as the client. `wildcard 0` leaves listeners on
// any address out.
#include <tuple>

#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class Divert : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

TEST_P(Divert, delivers_replies_to_a_connection_opened_with_a_foreign_source) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta l4proto tcp socket transparent 1 socket wildcard 0");
  route_marked_packets(network.router);
  const UniqueFd server = listen_plain(network.server, GetParam(), kServerPort);
  const auto dial = [&](Milliseconds patience) {
    return network.router.run([&]() -> Result<UniqueFd> {
      auto fd = connect_transparent(at(server_address(GetParam()), kServerPort),
                                    {.source = at(client_address(GetParam()), 0), .mark = 0, .keepalive_idle = {}});
      if (!fd) return fd;
      return established(std::move(*fd), patience);
    });
  };
  EXPECT_FALSE(dial(kSilence)) << "without the rule the reply goes on to the real client";
  add_prerouting(network.router, kDivert);
  const auto leg = dial(kPatience);
  ASSERT_TRUE(leg) << why(leg.error());
  UniqueFd accepted;
  do {  // the attempts without the rule may have left something half-open
    accepted = accept_within(server);
    ASSERT_TRUE(accepted.valid());
  } while (peer_address(accepted.get()).value_or(SocketAddress{}).port != original_destination(leg->get())->port);
  EXPECT_EQ(peer_address(accepted.get()).value().address, at(client_address(GetParam()), 0).address);
  expect_conversation(*leg, accepted);
}

/// Whether the client's connection passes through the router to the server although a listener on any address of the
/// router, transparent and on the same port, is there.
bool is_forwarded_beside_wildcard_listener(Family family, const std::string& rules) {
  const Network network;
  route_marked_packets(network.router);
  add_prerouting(network.router, rules);
  const UniqueFd wildcard = network.router.run([&] {
    return must(listen_transparent({.address = IpAddress::any(family), .port = Port{kServerPort}}), "listen");
  });
  const UniqueFd server = listen_plain(network.server, family, kServerPort);
  const auto client = connect_plain(network.client, at(server_address(family), kServerPort));
  return client && accept_within(server, kSilence).valid();
}

TEST_P(Divert, takes_what_a_wildcard_listener_matches_unless_told_not_to) {
  LIMPID_NEEDS_NFT(Namespace(), "meta l4proto tcp socket transparent 1 socket wildcard 0");
  EXPECT_FALSE(is_forwarded_beside_wildcard_listener(GetParam(), kDivert));
  EXPECT_TRUE(is_forwarded_beside_wildcard_listener(GetParam(), "socket wildcard 1 accept\n" + kDivert));
}

TEST_P(Divert, with_wildcard_0_misses_the_end_of_the_handshake) {
  const Network network;
  LIMPID_NEEDS_NFT(network.router, "meta l4proto tcp socket transparent 1 socket wildcard 0");
  route_marked_packets(network.router);
  const std::string syn = "tcp flags & (fin | syn | rst | ack) == syn ";
  const std::string tproxy = syn +
                             "meta nfproto ipv4 tcp dport 80 tproxy ip to 127.0.0.1:1080 meta mark set 1 accept\n" +
                             syn + "meta nfproto ipv6 tcp dport 80 tproxy ip6 to [::1]:1080 meta mark set 1 accept\n";
  add_prerouting(network.router,
                 "meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set 1 accept\n" + tproxy);
  const UniqueFd proxy = listen_transparent_in(network.router, GetParam(), kListener);
  std::ignore = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  EXPECT_FALSE(accept_within(proxy, kSilence).valid())
      << "the acknowledgement was not diverted: the socket is in SYN_RECV";

  // In a network of its own: what is left of that connection would complete its handshake here.
  const Network other;
  route_marked_packets(other.router);
  add_prerouting(other.router, kDivert + tproxy);
  const UniqueFd listening = listen_transparent_in(other.router, GetParam(), kListener);
  const auto client = connect_plain(other.client, at(server_address(GetParam()), kServerPort));
  ASSERT_TRUE(client) << why(client.error());
  expect_conversation(*client, accept_within(listening));
}

INSTANTIATE_TEST_SUITE_P(Families, Divert, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
