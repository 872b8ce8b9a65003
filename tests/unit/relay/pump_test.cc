// The pump between real TCP sockets: every byte, every end, bounded memory.
#include "relay/pump.h"

#include <gtest/gtest.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

namespace limpid {
namespace {

struct TcpPair {
  UniqueFd near;  ///< the relay's end, non-blocking
  UniqueFd far;   ///< the peer's end, blocking
};

TcpPair make_tcp_pair() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(listen(listener.get(), 1), 0);
  EXPECT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  TcpPair pair;
  pair.far = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(pair.far.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  pair.near = UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  EXPECT_TRUE(pair.near.valid());
  return pair;
}

void wait_for(int fd, short events) {
  pollfd wanted{.fd = fd, .events = events, .revents = 0};
  ASSERT_EQ(poll(&wanted, 1, 5000), 1) << "nothing happened within 5 s";
}

class PumpTest : public testing::Test {
 protected:
  PumpTest() : client_(make_tcp_pair()), target_(make_tcp_pair()) {
    source_.fd = std::move(client_.near);
    sink_.fd = std::move(target_.near);
    source_.readable = sink_.writable = true;
  }
  void TearDown() override { release(direction_, resources_); }

  [[nodiscard]] PumpOutcome step() { return pump(direction_, source_, sink_, resources_); }
  /// What epoll would report.
  void look(Leg& leg) {
    pollfd wanted{.fd = leg.fd.get(), .events = POLLIN | POLLOUT | POLLRDHUP, .revents = 0};
    poll(&wanted, 1, 0);
    if ((wanted.revents & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)) != 0) leg.readable = true;
    if ((wanted.revents & (POLLOUT | POLLHUP | POLLERR)) != 0) leg.writable = true;
    if ((wanted.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) leg.hangup = true;
  }
  [[nodiscard]] std::size_t held_bytes() const {
    return direction_.held_end - direction_.held_begin + direction_.piped;
  }

  TcpPair client_;
  TcpPair target_;
  Leg source_;
  Leg sink_;
  Direction direction_;
  Counters counters_;
  BufferPool buffers_;
  PipePool pipes_{4};
  std::vector<std::byte> shared_ = std::vector<std::byte>(BufferPool::kLargestBytes);
  PumpResources resources_{.shared_buffer = shared_, .buffers = buffers_, .pipes = pipes_, .counters = counters_};
};

TEST_F(PumpTest, moves_bytes_and_blocks_when_there_are_no_more) {
  ASSERT_EQ(send(client_.far.get(), "hello", 5, 0), 5);
  wait_for(source_.fd.get(), POLLIN);
  EXPECT_EQ(step(), PumpOutcome::blocked);
  EXPECT_FALSE(source_.readable);
  std::array<char, 16> text{};
  EXPECT_EQ(recv(target_.far.get(), text.data(), text.size(), 0), 5);
  EXPECT_STREQ(text.data(), "hello");
  EXPECT_EQ(direction_.bytes, 5U);
}

TEST_F(PumpTest, passes_on_a_finish_after_the_last_byte) {
  ASSERT_EQ(send(client_.far.get(), "bye", 3, 0), 3);
  shutdown(client_.far.get(), SHUT_WR);
  wait_for(source_.fd.get(), POLLRDHUP);
  look(source_);
  EXPECT_EQ(step(), PumpOutcome::finished);
  EXPECT_TRUE(direction_.done);
  std::array<char, 16> text{};
  EXPECT_EQ(recv(target_.far.get(), text.data(), text.size(), MSG_WAITALL), 3);
  EXPECT_EQ(recv(target_.far.get(), text.data(), text.size(), 0), 0);
}

tcp_info information(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  return info;
}

TEST_F(PumpTest, last_bytes_and_finish_are_one_segment) {
  ASSERT_EQ(send(client_.far.get(), "bye", 3, 0), 3);
  shutdown(client_.far.get(), SHUT_WR);
  wait_for(source_.fd.get(), POLLRDHUP);
  look(source_);
  const auto before = information(sink_.fd.get()).tcpi_segs_out;
  ASSERT_EQ(step(), PumpOutcome::finished);
  EXPECT_EQ(information(sink_.fd.get()).tcpi_segs_out - before, 1U);
}

TEST_F(PumpTest, nothing_is_kept_back_when_the_finish_does_not_come) {
  ASSERT_EQ(send(client_.far.get(), "more", 4, 0), 4);
  wait_for(source_.fd.get(), POLLIN);
  source_.hangup = true;  // as after a write to it has failed
  EXPECT_EQ(step(), PumpOutcome::blocked);
  EXPECT_EQ(information(sink_.fd.get()).tcpi_notsent_bytes, 0U);
  std::array<char, 16> text{};
  EXPECT_EQ(recv(target_.far.get(), text.data(), text.size(), MSG_DONTWAIT), 4);
}

TEST_F(PumpTest, gives_the_sink_every_byte_that_came_before_a_reset) {
  ASSERT_EQ(send(client_.far.get(), "last words", 10, 0), 10);
  wait_for(source_.fd.get(), POLLIN);
  const linger abort{.l_onoff = 1, .l_linger = 0};
  setsockopt(client_.far.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  client_.far.reset();
  wait_for(source_.fd.get(), POLLHUP);
  look(source_);
  EXPECT_EQ(step(), PumpOutcome::source_failed);
  EXPECT_TRUE(source_.reset);
  std::array<char, 16> text{};
  EXPECT_EQ(recv(target_.far.get(), text.data(), 10, MSG_WAITALL), 10);
}

TEST_F(PumpTest, notices_that_the_sink_was_reset) {
  const linger abort{.l_onoff = 1, .l_linger = 0};
  setsockopt(target_.far.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  target_.far.reset();
  wait_for(sink_.fd.get(), POLLHUP);
  ASSERT_EQ(send(client_.far.get(), "lost", 4, 0), 4);
  wait_for(source_.fd.get(), POLLIN);
  EXPECT_EQ(step(), PumpOutcome::sink_failed);
  EXPECT_TRUE(sink_.reset);
  EXPECT_TRUE(sink_.readable) << "what its peer sent before must still be read";
}

/// Random data of a size that needs both copying and splicing, through a sink that is read in fits and starts.
TEST_F(PumpTest, every_byte_arrives_in_order_through_a_slow_sink) {
  constexpr std::size_t kSize = std::size_t{24} << 20U;
  std::mt19937 random(7);
  std::vector<std::uint8_t> data(kSize);
  std::ranges::generate(data, [&] { return static_cast<std::uint8_t>(random()); });
  std::vector<std::uint8_t> received;
  received.reserve(kSize);
  std::vector<std::uint8_t> chunk(std::size_t{1} << 20U);
  std::size_t sent = 0;
  std::size_t most_held = 0;
  bool finished = false;
  for (int round = 0; round < 1'000'000 && received.size() < kSize; ++round) {
    if (sent < kSize) {
      const ssize_t count = send(client_.far.get(), data.data() + sent, kSize - sent, MSG_DONTWAIT);
      if (count > 0) sent += static_cast<std::size_t>(count);
      if (sent == kSize) shutdown(client_.far.get(), SHUT_WR);
    }
    look(source_);
    look(sink_);
    finished = finished || step() == PumpOutcome::finished;
    most_held = std::max(most_held, held_bytes());
    if (random() % 3 == 0 || finished) {
      const std::size_t wanted = random() % 5 == 0 ? 100 : chunk.size();
      const ssize_t count = recv(target_.far.get(), chunk.data(), wanted, MSG_DONTWAIT);
      if (count > 0) received.insert(received.end(), chunk.begin(), chunk.begin() + count);
    }
  }
  ASSERT_EQ(received.size(), kSize);
  EXPECT_TRUE(received == data);
  EXPECT_TRUE(finished);
  EXPECT_EQ(direction_.bytes, kSize);
  EXPECT_GT(counters_.get(Counter::spliced_bytes), 0U);
  EXPECT_LE(most_held, std::max(BufferPool::kLargestBytes, PipePool::kCapacityBytes));
}

TEST_F(PumpTest, reads_nothing_more_while_the_sink_is_blocked) {
  std::vector<std::byte> block(std::size_t{1} << 20U);
  for (int i = 0; i < 2000; ++i) {
    send(client_.far.get(), block.data(), block.size(), MSG_DONTWAIT);
    look(source_);
    if (step() == PumpOutcome::blocked && held_bytes() > 0 && i > 100) break;
  }
  ASSERT_GT(held_bytes(), 0U) << "the sink never filled up";
  const auto held = held_bytes();
  for (int i = 0; i < 50; ++i) {
    look(source_);
    ASSERT_EQ(step(), PumpOutcome::blocked);
    ASSERT_EQ(held_bytes(), held);
  }
}

TEST_F(PumpTest, gives_its_pipe_back_when_the_source_pauses) {
  std::vector<std::byte> block(std::size_t{64} << 10U);
  std::vector<std::byte> sink_buffer(std::size_t{1} << 20U);
  for (int i = 0; i < 64; ++i) {
    ASSERT_EQ(send(client_.far.get(), block.data(), block.size(), 0), static_cast<ssize_t>(block.size()));
    wait_for(source_.fd.get(), POLLIN);
    look(source_);
    look(sink_);
    [[maybe_unused]] const auto outcome = step();
    while (recv(target_.far.get(), sink_buffer.data(), sink_buffer.size(), MSG_DONTWAIT) > 0) {
    }
  }
  ASSERT_GT(counters_.get(Counter::spliced_bytes), 0U);
  EXPECT_FALSE(direction_.pipe.valid());
}

TEST_F(PumpTest, copies_on_when_no_pipe_is_to_be_had) {
  PipePool none{0};
  PumpResources poor{.shared_buffer = shared_, .buffers = buffers_, .pipes = none, .counters = counters_};
  std::vector<std::byte> block(std::size_t{64} << 10U);
  std::vector<std::byte> sink_buffer(std::size_t{1} << 20U);
  std::size_t received = 0;
  for (int i = 0; i < 64; ++i) {
    ASSERT_EQ(send(client_.far.get(), block.data(), block.size(), 0), static_cast<ssize_t>(block.size()));
    wait_for(source_.fd.get(), POLLIN);
    look(source_);
    look(sink_);
    [[maybe_unused]] const auto outcome = pump(direction_, source_, sink_, poor);
    for (;;) {
      const ssize_t count = recv(target_.far.get(), sink_buffer.data(), sink_buffer.size(), MSG_DONTWAIT);
      if (count <= 0) break;
      received += static_cast<std::size_t>(count);
    }
  }
  EXPECT_GT(received, kSpliceAfterBytes);
  EXPECT_EQ(counters_.get(Counter::spliced_bytes), 0U);
}

TEST(BufferPool, hands_out_what_was_asked_for_and_takes_it_back) {
  BufferPool pool;
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, std::size_t{4097}, BufferPool::kLargestBytes}) {
    const auto buffer = pool.acquire(size);
    ASSERT_GE(buffer.size(), size);
    const auto* first = buffer.data();
    pool.release(buffer);
    const auto again = pool.acquire(size);
    EXPECT_EQ(again.data(), first) << "a freed buffer is used again";
    pool.release(again);
  }
}

TEST(PipePool, never_lends_more_than_its_limit_and_never_a_used_pipe) {
  PipePool pool{1};
  Pipe pipe = pool.acquire();
  ASSERT_TRUE(pipe.valid());
  EXPECT_FALSE(pool.acquire().valid());
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  pool.discard(std::move(pipe));
  Pipe fresh = pool.acquire();
  ASSERT_TRUE(fresh.valid());
  int waiting = -1;
  ASSERT_EQ(ioctl(fresh.read_end.get(), FIONREAD, &waiting), 0);
  EXPECT_EQ(waiting, 0);
  pool.release(std::move(fresh));
}

}  // namespace
}  // namespace limpid
