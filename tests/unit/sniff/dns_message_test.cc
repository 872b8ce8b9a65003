// What a DNS answer says of a name, and how hostile ones say nothing.
#include "sniff/dns_message.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/sniff/dns_writer.h"

namespace limpid {
namespace {

using dns_test::kA;
using dns_test::kAaaa;
using dns_test::kAnswer;
using dns_test::kCname;
using dns_test::Writer;

bool is_answer(const Writer& message) {
  DnsAnswer answer;
  return read_dns_answer(message.bytes(), answer);
}

TEST(DnsQuestion, is_for_the_addresses_of_a_name) {
  DnsQuestion question;
  ASSERT_TRUE(read_dns_question(dns_test::query(0x1234, "WWW.Example.org", kAaaa), question));
  EXPECT_EQ(question.name.view(), "www.example.org");
  EXPECT_EQ(question.id, 0x1234);
  EXPECT_TRUE(question.ipv6);
  ASSERT_TRUE(read_dns_question(dns_test::query(1, "a"), question));
  EXPECT_FALSE(question.ipv6);
  EXPECT_FALSE(read_dns_question(dns_test::query(1, "www.example.org", 65), question)) << "HTTPS";
  EXPECT_FALSE(read_dns_question(dns_test::query(1, ""), question)) << "the root";
  EXPECT_FALSE(read_dns_question(dns_test::answer(1, "www.example.org", {1}), question));
  EXPECT_FALSE(read_dns_question(Writer(1, 0x0100, 1, 0).name("a").number(kA, 2).number(3, 2).bytes(), question))
      << "class CH";
}

TEST(DnsAnswer, has_the_addresses_of_the_name_and_the_least_time_to_live) {
  DnsAnswer answer;
  ASSERT_TRUE(read_dns_answer(dns_test::answer(7, "Www.example.org", {1, 2}), answer));
  EXPECT_EQ(answer.question.name.view(), "www.example.org");
  EXPECT_EQ(answer.question.id, 7);
  EXPECT_FALSE(answer.question.ipv6);
  EXPECT_EQ(answer.ttl_seconds, 300U);
  ASSERT_EQ(answer.count, 2U);
  EXPECT_EQ(answer.addresses[1][3], 2);
  ASSERT_TRUE(read_dns_answer(dns_test::answer(7, "www.example.org", {9}, kAaaa, 0x80000000U), answer));
  EXPECT_TRUE(answer.question.ipv6);
  EXPECT_EQ(answer.ttl_seconds, 0U) << "RFC 2181";
  EXPECT_EQ(answer.addresses[0][15], 9);
}

TEST(DnsAnswer, follows_aliases_in_any_order_to_the_name_that_was_asked_for) {
  Writer message(1, kAnswer, 1, 5);
  message.question("www.example.org", kA);
  message.name("cdn.example.net").record(kA, 60, {192, 0, 2, 1});
  message.alias("edge.example.com", 30, "CDN.example.net");
  message.name("other.example.net").record(kA, 1, {192, 0, 2, 99});
  message.alias("www.example.org", 20, "edge.example.com");
  message.name("www.example.org").record(kA, 1, {192, 0, 2, 98});
  DnsAnswer answer;
  ASSERT_TRUE(read_dns_answer(message.bytes(), answer));
  EXPECT_EQ(answer.question.name.view(), "www.example.org");
  ASSERT_EQ(answer.count, 1U) << "what belongs to no name on the way, or to an alias, is nobody's";
  EXPECT_EQ(answer.addresses[0][3], 1);
  EXPECT_EQ(answer.ttl_seconds, 20U);
}

TEST(DnsAnswer, is_none_where_aliases_go_in_a_circle_or_on_and_on) {
  Writer circle(1, kAnswer, 1, 3);
  circle.question("a.example", kA).alias("a.example", 1, "b.example").alias("b.example", 1, "a.example");
  circle.name("a.example").record(kA, 1, {192, 0, 2, 1});
  EXPECT_FALSE(is_answer(circle));
  const auto chain = [](unsigned length) {
    Writer message(1, kAnswer, 1, length + 1);
    message.question("n0.example", kA);
    for (unsigned i = 0; i < length; ++i)
      message.alias("n" + std::to_string(i) + ".example", 1, "n" + std::to_string(i + 1) + ".example");
    message.name("n" + std::to_string(length) + ".example").record(kA, 1, {192, 0, 2, 1});
    return is_answer(message);
  };
  EXPECT_TRUE(chain(kMostDnsAliases));
  EXPECT_FALSE(chain(kMostDnsAliases + 1));
}

TEST(DnsAnswer, is_none_with_pointers_that_lead_nowhere_in_a_circle_or_too_far) {
  const auto with_owner = [](auto write) {
    Writer message(1, kAnswer, 1, 1);
    message.question("a.example", kA);
    write(message);
    message.record(kA, 1, {192, 0, 2, 1});
    return is_answer(message);
  };
  EXPECT_TRUE(with_owner([](Writer& message) { message.pointer(12); }));
  EXPECT_TRUE(with_owner([](Writer& message) { message.labels("a").pointer(14); }));
  EXPECT_FALSE(with_owner([](Writer& message) { message.pointer(message.size()); })) << "itself";
  EXPECT_FALSE(with_owner([](Writer& message) { message.pointer(message.size() + 2); })) << "forwards";
  EXPECT_FALSE(with_owner([](Writer& message) { message.pointer(0x3fff); })) << "past the end";
  EXPECT_FALSE(with_owner([](Writer& message) { message.labels("a").pointer(message.size() - 2); }))
      << "back to its own beginning";
  EXPECT_FALSE(with_owner([](Writer& message) { message.number(0x80, 1).number(0, 1); })) << "no kind of label";
  // Pointers to pointers, each one further back: no circle, but a way that no server writes.
  Writer with_near(1, kAnswer, 1, 2);
  with_near.question("a.example", kA);
  const std::size_t first = with_near.size() + 1 + 10;
  std::vector<unsigned> steps;
  for (unsigned i = 0; i < 20; ++i) {
    const std::size_t to = i == 0 ? 12 : first + std::size_t{2} * (i - 1);
    steps.push_back(0xc0U | static_cast<unsigned>(to >> 8U));
    steps.push_back(static_cast<unsigned>(to & 0xffU));
  }
  with_near.name("").record(99, 1, steps);
  Writer with_far = with_near;
  EXPECT_TRUE(is_answer(with_near.pointer(first + 10).record(kA, 1, {192, 0, 2, 1})));
  EXPECT_FALSE(is_answer(with_far.pointer(first + 38).record(kA, 1, {192, 0, 2, 1})));
}

TEST(DnsAnswer, is_none_unless_the_header_says_so) {
  const auto with_flags = [](unsigned flags, unsigned questions = 1) {
    Writer message(1, flags, questions, 1);
    message.question("a.example", kA).pointer(12).record(kA, 1, {192, 0, 2, 1});
    return is_answer(message);
  };
  EXPECT_TRUE(with_flags(0x8000));
  EXPECT_TRUE(with_flags(0x85b0)) << "AA, RD, RA, AD, CD";
  EXPECT_FALSE(with_flags(0x0100)) << "a query";
  EXPECT_FALSE(with_flags(0x8380)) << "cut short";
  EXPECT_FALSE(with_flags(0x8183)) << "no such name";
  EXPECT_FALSE(with_flags(0xa800)) << "an update";
  EXPECT_FALSE(with_flags(0x8180, 0));
  EXPECT_FALSE(with_flags(0x8180, 2));
}

TEST(DnsAnswer, is_none_with_lengths_or_counts_that_do_not_fit) {
  Writer many(1, kAnswer, 1, kMostDnsRecords + 1);
  many.question("a.example", kA);
  for (std::size_t i = 0; i <= kMostDnsRecords; ++i) many.pointer(12).record(kA, 1, {192, 0, 2, 1});
  EXPECT_FALSE(is_answer(many));
  Writer fewer(1, kAnswer, 1, 2);
  EXPECT_FALSE(is_answer(fewer.question("a.example", kA).pointer(12).record(kA, 1, {192, 0, 2, 1})));
  Writer size(1, kAnswer, 1, 1);
  EXPECT_FALSE(is_answer(size.question("a.example", kA).pointer(12).record(kA, 1, {192, 0, 2, 1, 5})));
  Writer other(1, kAnswer, 1, 1);
  EXPECT_FALSE(is_answer(other.question("a.example", kA).pointer(12).record(kAaaa, 1, std::vector<unsigned>(16, 1))));
  Writer alias(1, kAnswer, 1, 1);
  EXPECT_FALSE(is_answer(alias.question("a.example", kA).pointer(12).record(kCname, 1, {1, 'b', 0, 0})))
      << "something behind the alias's name";
  DnsAnswer answer;
  const auto whole = dns_test::answer(1, "www.example.org", {1, 2, 3});
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(read_dns_answer(std::span(whole).first(length), answer)) << length;
}

TEST(DnsAnswer, keeps_the_first_of_too_many_addresses_and_no_hostile_name) {
  Writer many(1, kAnswer, 1, kMostDnsRecords);
  many.question("a.example", kA);
  for (unsigned i = 0; i < kMostDnsRecords; ++i) many.pointer(12).record(kA, 1, {192, 0, 2, i});
  DnsAnswer answer;
  ASSERT_TRUE(read_dns_answer(many.bytes(), answer));
  EXPECT_EQ(answer.count, DnsAnswer::kMostAddresses);
  for (const char* name : {"a\x1b[2J.example", "a b.example", ""}) {
    Writer message(1, kAnswer, 1, 1);
    EXPECT_FALSE(is_answer(message.question(name, kA).pointer(12).record(kA, 1, {192, 0, 2, 1}))) << name;
  }
  Writer dotted(1, kAnswer, 1, 1);
  dotted.number(3, 1).number('a', 1).number('.', 1).number('b', 1).number(0, 1).number(kA, 2).number(1, 2);
  EXPECT_FALSE(is_answer(dotted.pointer(12).record(kA, 1, {192, 0, 2, 1}))) << "a dot within a label";
}

TEST(DnsAnswer, is_sound_whatever_is_changed_in_it) {
  std::mt19937 random(1);
  Writer message(1, kAnswer, 1, 2);
  message.question("www.example.org", kA)
      .alias("www.example.org", 5, "b.example")
      .name("b.example")
      .record(kA, 1, {192, 0, 2, 1});
  for (int round = 0; round < 20'000; ++round) {
    auto bytes = message.bytes();
    for (unsigned changes = random() % 4 + 1; changes-- > 0;)
      bytes.at(random() % bytes.size()) = static_cast<std::byte>(random());
    bytes.resize(bytes.size() - random() % 3);
    DnsAnswer answer;
    if (!read_dns_answer(bytes, answer)) continue;
    EXPECT_EQ(answer.question.name.kind(), HostName::Kind::domain);
    EXPECT_TRUE(answer.count >= 1 && answer.count <= DnsAnswer::kMostAddresses);
  }
}

}  // namespace
}  // namespace limpid
