// The packets between the process that relays and the one that keeps the rules: what is understood, and that nothing else is.
#include "service/keeper_protocol.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

struct Channel {
  UniqueFd one;
  UniqueFd other;
};

Channel make_channel() {
  std::array<int, 2> ends{};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

constexpr std::uint8_t kSequence = 7;

Result<std::string> receive(const Channel& channel, const UniqueFd& stop) {
  return receive_report(channel.other.get(), kSequence, stop.get(),
                        std::chrono::steady_clock::now() + std::chrono::seconds(60));
}

UniqueFd never() {
  return UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

TEST(KeeperProtocol, every_order_comes_through) {
  for (const auto order : {KeeperOrder::install, KeeperOrder::begin_drain, KeeperOrder::remove,
                           KeeperOrder::start_successor, KeeperOrder::end_successor, KeeperOrder::leave}) {
    const KeeperRequest request{.order = order};
    EXPECT_EQ(decode_request(encode(request)), request);
  }
  const KeeperRequest reload{.order = KeeperOrder::reload, .value = 0xfedcba9876543210U, .sequence = 0x1234};
  EXPECT_EQ(decode_request(encode(reload)), reload);
  EXPECT_EQ(encode(reload), std::string("LRK1\x02\0\x34\x12\x10\x32\x54\x76\x98\xba\xdc\xfe", 16));
}

TEST(KeeperProtocol, patience_is_bounded_and_belongs_to_one_order) {
  const KeeperRequest longest{.order = KeeperOrder::end_successor, .value = kMostPatienceMs};
  EXPECT_EQ(decode_request(encode(longest)), longest);
  EXPECT_FALSE(decode_request(encode({.order = KeeperOrder::end_successor, .value = kMostPatienceMs + 1})));
  EXPECT_FALSE(decode_request(encode({.order = KeeperOrder::start_successor, .value = 1})));
  EXPECT_FALSE(decode_request(encode({.order = KeeperOrder::leave, .value = 1})));
}

TEST(KeeperProtocol, an_answer_keeps_its_number_and_its_text) {
  const auto back = decode_reply(
      encode(KeeperReply{.flag = true, .number = 0x123456789abcdef0U, .text = "killed", .sequence = 0xfffe}));
  EXPECT_EQ(back.sequence, 0xfffe);
  EXPECT_TRUE(back.outcome && back.flag);
  EXPECT_EQ(back.number, 0x123456789abcdef0U);
  EXPECT_EQ(back.text, "killed");
  const std::string whole = encode(KeeperReply{.number = 1});
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(decode_reply(whole.substr(0, length)).outcome) << length;
}

TEST(KeeperProtocol, a_late_answer_is_not_taken_for_that_of_the_next_order) {
  auto ends = DescriptorChannel::open();
  ASSERT_TRUE(ends);
  const auto keeper = DescriptorChannel::adopt(std::move(ends->second));
  ASSERT_TRUE(keeper);
  const auto now = std::chrono::steady_clock::now();
  const auto answer = [&](const KeeperReply& reply) {
    const std::string packet = encode(reply);
    EXPECT_TRUE(keeper->send(std::as_bytes(std::span(packet)), {}, now));
  };
  answer({.flag = true, .sequence = 0xffff});  // of a reload that took too long
  answer({.number = 4711, .sequence = 0});
  const auto own = receive_reply(ends->first, 0, now);
  ASSERT_TRUE(own) << own.error().message();
  EXPECT_EQ(own->number, 4711U);
  answer({.sequence = 0});
  EXPECT_EQ(receive_reply(ends->first, 1, now).error().code, ETIMEDOUT);
}

TEST(KeeperProtocol, what_is_no_order_is_refused) {
  const std::string good = encode({.order = KeeperOrder::reload, .value = kMostPatienceMs + 1});
  EXPECT_FALSE(decode_request(""));
  EXPECT_FALSE(decode_request(good.substr(0, 15)));
  EXPECT_FALSE(decode_request(good + '\0'));
  for (const std::size_t place : {0U, 1U, 2U, 3U, 4U, 5U}) {  // the next two are the sequence, which may be any
    for (int value = 0; value < 256; ++value) {
      std::string changed = good;
      changed[place] = static_cast<char>(value);
      if (changed == good) continue;
      // Another order may be one, but only a reload has such a number.
      EXPECT_FALSE(decode_request(changed)) << place << " " << value;
    }
  }
}

TEST(KeeperProtocol, an_error_keeps_its_parts_and_its_kind) {
  Error error{.kind = ErrorKind::unsupported,
              .operation = "install",
              .object = "nft table inet limpid",
              .cause = "no",
              .remedy = "modprobe nf_tables"};
  const KeeperReply reply = decode_reply(encode({.outcome = std::unexpected(error)}));
  ASSERT_FALSE(reply.outcome);
  EXPECT_EQ(reply.outcome.error().kind, ErrorKind::unsupported);
  EXPECT_EQ(reply.outcome.error().message(), error.message());
  EXPECT_TRUE(decode_reply(encode({.outcome = {}, .flag = true})).flag);
  EXPECT_TRUE(decode_reply(encode({.outcome = {}, .flag = false})).outcome);
  EXPECT_FALSE(decode_reply(encode({.outcome = {}, .flag = false})).flag);
}

TEST(KeeperProtocol, the_longest_error_fits_into_one_answer) {
  const std::string much(100'000, 'x');
  const std::string packet = encode({.outcome = failure(much, much, much, much)});
  EXPECT_LE(packet.size(), kMostKeeperReplyBytes);
  EXPECT_EQ(decode_reply(packet).outcome.error().remedy.size(), 8000U);
}

TEST(KeeperProtocol, an_answer_that_is_none_is_an_error) {
  for (const std::string& packet : {std::string(), std::string("LRK"), std::string("LRK1"), std::string("XXXX\1\1"),
                                    std::string("LRK1\0\0", 6), std::string("LRK1\0\0\xffgarbages!", 16)}) {
    const KeeperReply reply = decode_reply(packet);
    ASSERT_FALSE(reply.outcome);
    EXPECT_FALSE(reply.outcome.error().cause.empty());
  }
}

TEST(KeeperProtocol, digests_tell_texts_apart) {
  // The test vectors of FNV-1a (draft-eastlake-fnv).
  EXPECT_EQ(digest_of(""), 0xcbf29ce484222325U);
  EXPECT_EQ(digest_of("foobar"), 0x85944171f73967e8U);
}

TEST(KeeperProtocol, a_long_report_comes_through_whole) {
  const Channel channel = make_channel();
  std::string text(3'000'000, 'a');
  text.back() = 'z';
  std::thread sender([&] { send_report(channel.one.get(), kSequence, text); });
  const UniqueFd stop = never();
  const auto report = receive(channel, stop);
  sender.join();
  ASSERT_TRUE(report);
  EXPECT_EQ(*report, text);
}

TEST(KeeperProtocol, a_report_without_end_is_cut_off) {
  Channel channel = make_channel();
  std::thread sender([&] {
    const std::string packet = "m\x07" + std::string(32768, 'a');
    while (send(channel.one.get(), packet.data(), packet.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  const UniqueFd stop = never();
  const auto report = receive(channel, stop);
  channel.other.reset();
  sender.join();
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().message().find("too long"), std::string::npos);
}

TEST(KeeperProtocol, nobody_waits_for_a_report_that_cannot_come) {
  Channel channel = make_channel();
  const UniqueFd stop = never();
  ASSERT_EQ(eventfd_write(stop.get(), 1), 0);
  EXPECT_FALSE(receive(channel, stop));
  const UniqueFd calm = never();
  send_report(channel.one.get(), kSequence, failure("run", "limpid doctor", "it was sick"));
  const auto told = receive(channel, calm);
  ASSERT_FALSE(told);
  EXPECT_EQ(told.error().message(), "run limpid doctor: it was sick");
  channel.one.reset();
  const auto ended = receive(channel, calm);
  ASSERT_FALSE(ended);
  EXPECT_NE(ended.error().message().find("has ended"), std::string::npos);
}

TEST(KeeperProtocol, a_report_that_is_late_is_not_taken_for_the_next_one) {
  const Channel channel = make_channel();
  const UniqueFd stop = never();
  const auto now = std::chrono::steady_clock::now();
  send_report(channel.one.get(), kSequence - 1, "an old one");
  const auto none = receive_report(channel.other.get(), kSequence, stop.get(), now);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message().find("in time"), std::string::npos);
  send_report(channel.one.get(), kSequence - 1, failure("run", "limpid doctor", "it was killed"));
  send_report(channel.one.get(), kSequence, "a new one");
  const auto report = receive(channel, stop);
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_EQ(*report, "a new one");
}

}  // namespace
}  // namespace limpid
