// Which answers teach names: those to a question that was asked in the same session, once, from where it was sent; in datagrams, and in streams however they are cut.
#include "relay/dns_watch.h"

#include <gtest/gtest.h>

#include "tests/unit/sniff/dns_writer.h"

namespace limpid {
namespace {

using Bytes = std::vector<std::byte>;

SocketAddress at(const std::string& text) {
  return SocketAddress::parse(text).value();
}

Bytes framed(const Bytes& message) {
  Bytes bytes{static_cast<std::byte>(message.size() >> 8U), static_cast<std::byte>(message.size())};
  bytes.insert(bytes.end(), message.begin(), message.end());
  return bytes;
}

class DnsWatchTest : public testing::Test {
 protected:
  bool hears(const Bytes& message, const SocketAddress& from) { return watch_.learn(message, from, client_, 0); }
  [[nodiscard]] bool knows(unsigned host) const {
    return hints_.find(client_, IpAddress::parse("192.0.2." + std::to_string(host)).value(), 0) != nullptr;
  }

  NameHints hints_;
  DnsWatch watch_{hints_};
  const IpAddress client_ = IpAddress::parse("198.51.100.1").value();
  const SocketAddress resolver_ = at("203.0.113.53:53");
};

TEST_F(DnsWatchTest, an_answer_to_a_question_teaches_once) {
  watch_.note_question(dns_test::query(7, "www.EXAMPLE.org"), resolver_);
  EXPECT_TRUE(hears(dns_test::answer(7, "WWW.example.org", {1}), resolver_)) << "case means nothing";
  EXPECT_TRUE(knows(1));
  EXPECT_FALSE(hears(dns_test::answer(7, "www.example.org", {2}), resolver_)) << "it has its answer";
  EXPECT_FALSE(knows(2));
}

TEST_F(DnsWatchTest, what_nobody_asked_for_teaches_nothing) {
  EXPECT_FALSE(hears(dns_test::answer(0, "www.example.org", {1}), SocketAddress{}));
  watch_.note_question(dns_test::query(7, "www.example.org"), resolver_);
  EXPECT_FALSE(hears(dns_test::answer(8, "www.example.org", {1}), resolver_)) << "another id";
  EXPECT_FALSE(hears(dns_test::answer(7, "evil.example.org", {1}), resolver_)) << "another name";
  EXPECT_FALSE(hears(dns_test::answer(7, "www.example.org", {1}, dns_test::kAaaa), resolver_)) << "another type";
  EXPECT_FALSE(hears(dns_test::answer(7, "www.example.org", {1}), at("203.0.113.54:53"))) << "another server";
  EXPECT_FALSE(hears(dns_test::answer(7, "www.example.org", {1}), at("203.0.113.53:5353"))) << "another port";
  EXPECT_EQ(hints_.size(), 0U);
  EXPECT_TRUE(hears(dns_test::answer(7, "www.example.org", {1}), resolver_)) << "and the true one is not missed";
}

TEST_F(DnsWatchTest, the_latest_questions_are_remembered) {
  for (unsigned id = 0; id < 17; ++id) watch_.note_question(dns_test::query(id, "www.example.org"), resolver_);
  EXPECT_FALSE(hears(dns_test::answer(0, "www.example.org", {1}), resolver_));
  EXPECT_TRUE(hears(dns_test::answer(1, "www.example.org", {1}), resolver_));
  EXPECT_TRUE(hears(dns_test::answer(16, "www.example.org", {1}), resolver_));
}

TEST_F(DnsWatchTest, a_stream_teaches_the_same_however_it_is_cut) {
  Bytes questions;
  Bytes answers = framed(Bytes(DnsFrames::kMostBytes + 1));  // passed over
  for (unsigned id = 0; id < 3; ++id) {
    const auto question = framed(dns_test::query(id, "www.example.org"));
    const auto answer = framed(dns_test::answer(id, "www.example.org", {id + 1}));
    questions.insert(questions.end(), question.begin(), question.end());
    answers.insert(answers.end(), answer.begin(), answer.end());
  }
  for (const std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{50}, answers.size()}) {
    DnsWatch stream(hints_);
    std::size_t learnt = 0;
    const auto each_piece = [piece](const Bytes& bytes, auto take) {
      for (std::size_t begin = 0; begin < bytes.size(); begin += piece)
        take(std::span(bytes).subspan(begin, std::min(piece, bytes.size() - begin)));
    };
    each_piece(questions, [&](auto bytes) { stream.take_up(bytes, resolver_); });
    each_piece(answers, [&](auto bytes) { learnt += stream.take_down(bytes, resolver_, client_, 0); });
    EXPECT_EQ(learnt, 3U) << piece;
  }
  EXPECT_TRUE(knows(1) && knows(2) && knows(3));
}

}  // namespace
}  // namespace limpid
