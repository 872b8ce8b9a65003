// Packets and descriptors through a real socket pair.
#include "net/descriptor_channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <thread>

namespace limpid {
namespace {

using std::chrono::milliseconds;

DescriptorChannel::Deadline in(milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

struct Ends {
  DescriptorChannel one;
  DescriptorChannel other;
};

Ends open_ends() {
  auto ends = DescriptorChannel::open();
  auto other = DescriptorChannel::adopt(std::move(ends->second));
  return {std::move(ends->first), std::move(*other)};
}

std::vector<std::byte> bytes_of(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7);
  return bytes;
}

TEST(DescriptorChannel, packets_arrive_whole_in_order_with_their_descriptors) {
  const auto ends = open_ends();
  const UniqueFd counter(eventfd(0, EFD_CLOEXEC));
  const std::vector<int> many(DescriptorChannel::kMostDescriptors, counter.get());
  ASSERT_TRUE(ends.one.send(bytes_of(1), {}, in(milliseconds(100))));
  ASSERT_TRUE(ends.one.send(bytes_of(DescriptorChannel::kMostBytes), many, in(milliseconds(100))));
  const auto first = ends.other.receive(in(milliseconds(100)));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->bytes, bytes_of(1));
  EXPECT_TRUE(first->descriptors.empty());
  auto second = ends.other.receive(in(milliseconds(100)));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->bytes, bytes_of(DescriptorChannel::kMostBytes));
  ASSERT_EQ(second->descriptors.size(), DescriptorChannel::kMostDescriptors);
  EXPECT_EQ(fcntl(second->descriptors.back().get(), F_GETFD), FD_CLOEXEC);
  eventfd_write(second->descriptors.back().get(), 5);
  eventfd_t value = 0;
  EXPECT_EQ(eventfd_read(counter.get(), &value), 0);
  EXPECT_EQ(value, 5U) << "it is the same file";
}

TEST(DescriptorChannel, a_hundred_thousand_descriptors_pass_through_it) {
  const auto ends = open_ends();
  const UniqueFd counter(eventfd(0, EFD_CLOEXEC));
  const std::vector<int> many(DescriptorChannel::kMostDescriptors, counter.get());
  constexpr std::size_t kPackets = 400;
  std::thread reader([&] {
    for (std::size_t i = 0; i < kPackets; ++i) {
      const auto packet = ends.other.receive(in(milliseconds(10'000)));
      ASSERT_TRUE(packet);
      EXPECT_EQ(packet->descriptors.size(), many.size());
    }
  });
  for (std::size_t i = 0; i < kPackets; ++i) EXPECT_TRUE(ends.one.send(bytes_of(100), many, in(milliseconds(10'000))));
  reader.join();
}

TEST(DescriptorChannel, the_end_of_the_other_side_and_its_silence_are_errors) {
  auto ends = open_ends();
  EXPECT_EQ(ends.one.receive(in(milliseconds(10))).error().code, ETIMEDOUT);
  Status sent;
  while (sent) sent = ends.one.send(bytes_of(DescriptorChannel::kMostBytes), {}, in(milliseconds(10)));
  EXPECT_EQ(sent.error().code, ETIMEDOUT) << "nobody reads";
  ends.one.close();
  while (ends.other.receive(in(milliseconds(10)))) {
  }
  EXPECT_EQ(ends.other.receive(in(milliseconds(10))).error().code, EPIPE);
  EXPECT_EQ(ends.other.send(bytes_of(1), {}, in(milliseconds(10))).error().code, EPIPE);
}

TEST(DescriptorChannel, last_words_are_heard_of_one_who_had_not_read_everything) {
  auto ends = open_ends();
  ASSERT_TRUE(ends.other.send(bytes_of(3), {}, in(milliseconds(100))));
  ASSERT_TRUE(ends.one.send(bytes_of(1), {}, in(milliseconds(100))));
  ASSERT_TRUE(ends.one.send(bytes_of(2), {}, in(milliseconds(100))));
  ends.one.close();
  const auto first = ends.other.receive(in(milliseconds(100)));
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(first->bytes, bytes_of(1));
  const auto second = ends.other.receive(in(milliseconds(100)));
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(second->bytes, bytes_of(2));
  EXPECT_EQ(ends.other.receive(in(milliseconds(100))).error().code, EPIPE);
}

TEST(DescriptorChannel, another_kind_of_descriptor_is_refused) {
  EXPECT_FALSE(DescriptorChannel::adopt(UniqueFd(eventfd(0, EFD_CLOEXEC))));
  EXPECT_FALSE(DescriptorChannel::adopt(UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))));
  EXPECT_FALSE(DescriptorChannel::adopt(UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))));
  EXPECT_FALSE(DescriptorChannel::adopt(UniqueFd(9999)));
  const auto ends = open_ends();
  EXPECT_FALSE(ends.one.send({}, {}, in(milliseconds(10)))) << "an empty packet would look like the end";
  EXPECT_FALSE(ends.one.send(bytes_of(DescriptorChannel::kMostBytes + 1), {}, in(milliseconds(10))));
}

}  // namespace
}  // namespace limpid
