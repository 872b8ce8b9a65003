// Assumption: data that arrived before a RST can still be read after it, and only then comes ECONNRESET (tcp_reset()
// leaves the receive queue alone). "No byte received before it is lost" is built on it.
#include <netinet/in.h>

#include "tests/kernel/interception_rules.h"

namespace limpid::testbed {
namespace {

class BytesBeforeReset : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

TEST_P(BytesBeforeReset, are_readable_and_then_comes_the_error) {
  const Network network;
  const UniqueFd server = listen_plain(network.server, GetParam(), kServerPort);
  auto client = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  ASSERT_TRUE(client) << why(client.error());
  const UniqueFd accepted = accept_within(server);
  send_text(*client, "last words");
  ASSERT_TRUE(wait_for(accepted.get(), POLLIN, kPatience));
  const linger abort{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client->get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  client->reset();
  ASSERT_TRUE(wait_for(accepted.get(), POLLERR, kPatience));
  EXPECT_EQ(receive_text(accepted), "last words");
  EXPECT_EQ(receive_text(accepted), "error " + std::to_string(ECONNRESET));
}

TEST_P(BytesBeforeReset, so_error_takes_the_reset_away) {
  // Who reads SO_ERROR first takes the error away, and the end of the stream looks like an orderly one.
  const Network network;
  const UniqueFd server = listen_plain(network.server, GetParam(), kServerPort);
  auto client = connect_plain(network.client, at(server_address(GetParam()), kServerPort));
  ASSERT_TRUE(client) << why(client.error());
  const UniqueFd accepted = accept_within(server);
  const linger abort{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client->get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  client->reset();
  ASSERT_TRUE(wait_for(accepted.get(), POLLERR, kPatience));
  int error = 0;
  socklen_t length = sizeof error;
  ASSERT_EQ(::getsockopt(accepted.get(), SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, ECONNRESET);
  EXPECT_EQ(receive_text(accepted), "") << "looks like an orderly end";
}

INSTANTIATE_TEST_SUITE_P(Families, BytesBeforeReset, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
