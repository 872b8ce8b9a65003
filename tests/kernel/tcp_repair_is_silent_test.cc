// Assumption: a socket under TCP_REPAIR sends and receives like any other, its sequence numbers can be read while traffic runs through it,
// leaving with TCP_REPAIR_OFF_NO_WP sends nothing, and closing it under repair sends nothing either. SO_REUSEADDR is forgotten.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "net/tcp_state.h"
#include "tests/kernel/testbed.h"

namespace limpid::testbed {
namespace {

class TcpRepair : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

constexpr std::uint16_t kPort = 80;

/// A connection across the router, whose counters see every packet of it.
struct Pair {
  Network network;
  UniqueFd client;
  UniqueFd server;

  explicit Pair(Family family) {
    network.router.nft(
        "table inet t {\n counter up { }\n counter down { }\n chain f {\n  type filter hook forward priority 0;\n"
        "  tcp dport 80 counter name up\n  tcp sport 80 counter name down\n }\n}\n");
    const UniqueFd listener = listen_plain(network.server, family, kPort);
    client = must(connect_plain(network.client, at(server_address(family), kPort)), "connect");
    server = accept_within(listener);
  }
  std::string counters() const {
    return network.router.command("nftables", {"nft", "list", "counters", "table", "inet", "t"});
  }
};

int option(const UniqueFd& fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  EXPECT_EQ(::getsockopt(fd.get(), level, name, &value, &length), 0) << errno;
  return value;
}

std::size_t receive_all(const UniqueFd& fd, std::size_t count, std::atomic<bool>& wrong) {
  std::vector<unsigned char> buffer(1U << 16U);
  std::size_t received = 0;
  while (received < count && wait_for(fd.get(), POLLIN, kPatience)) {
    const ssize_t length = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (length <= 0) break;
    for (ssize_t i = 0; i < length; ++i) {
      if (buffer[static_cast<std::size_t>(i)] !=
          static_cast<unsigned char>((received + static_cast<std::size_t>(i)) % 251))
        wrong = true;
    }
    received += static_cast<std::size_t>(length);
  }
  return received;
}

void send_all(const UniqueFd& fd, std::size_t count) {
  std::vector<unsigned char> bytes(251U * 64U);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i % 251);
  std::size_t sent = 0;
  while (sent < count) {
    // Whole blocks and the rest of a broken one, so that the pattern goes on.
    const std::size_t begin = sent % bytes.size();
    const ssize_t length =
        ::send(fd.get(), bytes.data() + begin, std::min(bytes.size() - begin, count - sent), MSG_NOSIGNAL);
    if (length > 0) {
      sent += static_cast<std::size_t>(length);
    } else if (!wait_for(fd.get(), POLLOUT, kPatience)) {
      return;
    }
  }
}

TEST_P(TcpRepair, sends_nothing_by_itself) {
  const Pair pair(GetParam());
  expect_conversation(pair.client, pair.server);
  // Until the last acknowledgement, which may be delayed, has passed.
  std::string before;
  do {
    before = pair.counters();
    std::this_thread::sleep_for(Milliseconds(100));
  } while (before != pair.counters());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(tcp_position(pair.client.get(), false));
  std::this_thread::sleep_for(kSilence);
  EXPECT_EQ(pair.counters(), before);
  expect_conversation(pair.client, pair.server);
}

TEST_P(TcpRepair, numbers_agree_on_both_ends) {
  const Pair pair(GetParam());
  expect_conversation(pair.client, pair.server);
  send_text(pair.client, "unread");
  ASSERT_TRUE(wait_for(pair.server.get(), POLLIN, kPatience));
  const auto client = must(tcp_position(pair.client.get(), false), "client");
  const auto server = must(tcp_position(pair.server.get(), false), "server");
  EXPECT_EQ(client.written, server.received);
  EXPECT_EQ(server.received - server.read, 6U);
  EXPECT_EQ(client.received, server.written);
  EXPECT_EQ(client.read, client.received);
  // What one was told is what the other has said, once the acknowledgements are through.
  EXPECT_FALSE(sequence_before(server.announced_end, client.allowed_end));
  EXPECT_FALSE(sequence_before(client.announced_end, server.allowed_end));
  const auto traits = must(tcp_traits(pair.client.get()), "traits");
  const auto other = must(tcp_traits(pair.server.get()), "traits");
  EXPECT_TRUE(traits.established);
  EXPECT_EQ(traits.peer_scale, other.our_scale);
  EXPECT_EQ(traits.our_scale, other.peer_scale);
  EXPECT_TRUE(traits.timestamps && traits.sack);
  EXPECT_EQ(traits.segment, traits.advertised) << "both without the room for a timestamp";
}

/// Then what was read cannot be told any more: SIOCINQ leaves the FIN out, RCV.NXT does not.
TEST_P(TcpRepair, nothing_is_read_off_a_connection_that_is_finished) {
  const Pair pair(GetParam());
  send_text(pair.client, "last words");
  ASSERT_EQ(::shutdown(pair.client.get(), SHUT_WR), 0);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!must(tcp_traits(pair.server.get()), "traits").finished) ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  const auto position = tcp_position(pair.server.get(), false);
  ASSERT_FALSE(position);
  EXPECT_EQ(position.error().code, ESHUTDOWN);
  EXPECT_TRUE(tcp_position(pair.client.get(), false)) << "its own FIN is in its send queue";
  EXPECT_EQ(receive_text(pair.server), "last words");
}

TEST_P(TcpRepair, disturbs_no_traffic) {
  const Pair pair(GetParam());
  constexpr std::size_t kBytes = std::size_t{32} << 20U;
  std::atomic<bool> wrong{false};
  std::atomic<bool> over{false};
  std::size_t up = 0;
  std::size_t down = 0;
  int readings = 0;
  // Both directions of the far end; the near end is read from here while it receives, and while it is given nothing to send.
  std::thread far([&] {
    send_all(pair.client, kBytes);
    down = receive_all(pair.client, kBytes, wrong);
    over = true;
  });
  std::vector<unsigned char> buffer(1U << 16U);
  std::uint32_t last = 0;
  while (up < kBytes && wait_for(pair.server.get(), POLLIN, kPatience)) {
    const auto position = tcp_position(pair.server.get(), false);
    ASSERT_TRUE(position) << why(position.error());
    ASSERT_TRUE(readings == 0 || position->read == last) << "nobody else reads";
    ++readings;
    const ssize_t length = ::recv(pair.server.get(), buffer.data(), buffer.size(), 0);
    ASSERT_GT(length, 0);
    for (ssize_t i = 0; i < length; ++i) {
      if (buffer[static_cast<std::size_t>(i)] != static_cast<unsigned char>((up + static_cast<std::size_t>(i)) % 251))
        wrong = true;
    }
    up += static_cast<std::size_t>(length);
    last = position->read + static_cast<std::uint32_t>(length);
  }
  send_all(pair.server, kBytes);
  far.join();
  EXPECT_TRUE(over);
  EXPECT_EQ(up, kBytes);
  EXPECT_EQ(down, kBytes);
  EXPECT_FALSE(wrong);
  EXPECT_GT(readings, 100);
}

TEST_P(TcpRepair, closing_is_silent) {
  Pair pair(GetParam());
  expect_conversation(pair.client, pair.server);
  ASSERT_TRUE(begin_tcp_repair(pair.client.get()));
  pair.client.reset();
  EXPECT_EQ(receive_text(pair.server, kSilence), "silence");
}

TEST_P(TcpRepair, forgets_reuse_address) {
  const Pair pair(GetParam());
  const int on = 1;
  ASSERT_EQ(::setsockopt(pair.client.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  ASSERT_TRUE(begin_tcp_repair(pair.client.get()));
  ASSERT_TRUE(end_tcp_repair(pair.client.get(), false));
  EXPECT_EQ(option(pair.client, SOL_SOCKET, SO_REUSEADDR), 0) << "then nobody has to put it back";
  ASSERT_TRUE(tcp_position(pair.client.get(), true));
  EXPECT_NE(option(pair.client, SOL_SOCKET, SO_REUSEADDR), 0);
}

TEST_P(TcpRepair, a_held_window_stands_still) {
  const Pair pair(GetParam());
  constexpr std::size_t kBytes = 40'000;
  send_all(pair.client, kBytes);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (tcp_queues(pair.server.get()).unread < kBytes) ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  hold_tcp_window(pair.server.get());
  const auto before = must(tcp_position(pair.server.get(), false), "server");
  std::atomic<bool> wrong{false};
  EXPECT_EQ(receive_all(pair.server, kBytes, wrong), kBytes);
  const auto after = must(tcp_position(pair.server.get(), false), "server");
  EXPECT_EQ(after.announced_end, before.announced_end);
  release_tcp_window(pair.server.get());
  std::thread sender([&] { send_all(pair.client, kBytes * 10); });
  std::size_t received = 0;
  std::vector<unsigned char> buffer(1U << 16U);
  while (received < kBytes * 10 && wait_for(pair.server.get(), POLLIN, kPatience)) {
    const ssize_t length = ::recv(pair.server.get(), buffer.data(), buffer.size(), 0);
    if (length <= 0) break;
    received += static_cast<std::size_t>(length);
  }
  sender.join();
  EXPECT_EQ(received, kBytes * 10);
}

INSTANTIATE_TEST_SUITE_P(Families, TcpRepair, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
