// Which client has a hint for which address, for how long, and who loses his when there is no room.
#include "relay/name_hints.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/unit/sniff/dns_writer.h"

namespace limpid {
namespace {

constexpr std::uint64_t kSecondMs = 1000;

IpAddress address(const std::string& text) {
  return IpAddress::parse(text).value();
}

DnsAnswer answer(const std::string& name, std::initializer_list<unsigned> hosts, std::uint32_t ttl_seconds = 300,
                 unsigned type = dns_test::kA) {
  DnsAnswer read;
  EXPECT_TRUE(read_dns_answer(dns_test::answer(1, name, hosts, type, ttl_seconds), read));
  return read;
}

std::string hint(const NameHints& hints, const std::string& client, const std::string& of, std::uint64_t now_ms = 0) {
  const auto found = hints.find(address(client), address(of), now_ms);
  return found ? *found : "-";
}

TEST(NameHints, are_for_the_client_that_was_told_and_nobody_else) {
  NameHints hints;
  hints.learn(address("198.51.100.1"), answer("www.example", {1, 2}), 0);
  hints.learn(address("2001:db8:1::1"), answer("six.example", {3}, 300, dns_test::kAaaa), 0);
  EXPECT_EQ(hint(hints, "198.51.100.1", "192.0.2.1"), "www.example");
  EXPECT_EQ(hint(hints, "198.51.100.1", "192.0.2.2"), "www.example");
  EXPECT_EQ(hint(hints, "198.51.100.1", "192.0.2.3"), "-");
  EXPECT_EQ(hint(hints, "198.51.100.2", "192.0.2.1"), "-");
  EXPECT_EQ(hint(hints, "2001:db8:1::1", "2001:db8::3"), "six.example");
  EXPECT_EQ(hint(hints, "2001:db8:1::2", "2001:db8::3"), "-") << "the same /64 is not the same client";
  EXPECT_EQ(hints.size(), 3U);
}

TEST(NameHints, the_name_asked_for_last_counts) {
  NameHints hints;
  hints.learn(address("198.51.100.1"), answer("one.example", {1}), 0);
  hints.learn(address("198.51.100.1"), answer("two.example", {1}), 0);
  EXPECT_EQ(hint(hints, "198.51.100.1", "192.0.2.1"), "two.example");
  EXPECT_EQ(hints.size(), 1U);
}

TEST(NameHints, are_kept_as_long_as_their_time_to_live_within_bounds) {
  NameHints hints;
  const auto kept_for = [&](std::uint32_t ttl_seconds, std::chrono::seconds time) {
    const std::uint64_t begin = 5000;
    const auto end = begin + static_cast<std::uint64_t>(time.count()) * kSecondMs;
    hints.learn(address("198.51.100.1"), answer("www.example", {1}, ttl_seconds), begin);
    return hint(hints, "198.51.100.1", "192.0.2.1", end - 1) == "www.example" &&
           hint(hints, "198.51.100.1", "192.0.2.1", end) == "-";
  };
  EXPECT_TRUE(kept_for(300, std::chrono::seconds(300)));
  EXPECT_TRUE(kept_for(0, NameHints::kLeastKept));
  EXPECT_TRUE(kept_for(86'400, NameHints::kMostKept));
}

TEST(NameHints, a_client_that_has_its_part_loses_its_own_oldest) {
  NameHints hints(100, 3);
  hints.learn(address("198.51.100.1"), answer("quiet.example", {1}), 0);
  for (unsigned host = 1; host <= 3; ++host) hints.learn(address("198.51.100.2"), answer("busy.example", {host}), 0);
  hints.learn(address("198.51.100.2"), answer("busy.example", {1}), 0);  // not the oldest any more
  hints.learn(address("198.51.100.2"), answer("busy.example", {4}), 0);
  EXPECT_EQ(hint(hints, "198.51.100.2", "192.0.2.1"), "busy.example");
  EXPECT_EQ(hint(hints, "198.51.100.2", "192.0.2.2"), "-");
  EXPECT_EQ(hint(hints, "198.51.100.2", "192.0.2.4"), "busy.example");
  EXPECT_EQ(hint(hints, "198.51.100.1", "192.0.2.1"), "quiet.example");
  EXPECT_EQ(hints.size(), 4U);
}

TEST(NameHints, when_all_is_full_the_client_that_has_most_loses_and_of_several_the_most_silent) {
  NameHints hints(4, 3);
  hints.learn(address("198.51.100.1"), answer("one.example", {1, 2}), 0);
  hints.learn(address("198.51.100.2"), answer("two.example", {1, 2}), 0);
  hints.learn(address("198.51.100.1"), answer("one.example", {1}), 0);
  hints.learn(address("198.51.100.3"), answer("three.example", {1}), 0);
  EXPECT_EQ(hint(hints, "198.51.100.2", "192.0.2.1"), "-") << "its oldest";
  EXPECT_EQ(hint(hints, "198.51.100.2", "192.0.2.2"), "two.example");
  hints.learn(address("198.51.100.4"), answer("four.example", {1, 2, 3}), 0);
  EXPECT_EQ(hint(hints, "198.51.100.1", "192.0.2.2"), "-") << "it had two";
  EXPECT_EQ(hint(hints, "198.51.100.2", "192.0.2.2"), "-") << "all had one";
  EXPECT_EQ(hint(hints, "198.51.100.4", "192.0.2.1"), "-") << "it had two itself";
  EXPECT_EQ(hint(hints, "198.51.100.1", "192.0.2.1"), "one.example");
  EXPECT_EQ(hint(hints, "198.51.100.3", "192.0.2.1"), "three.example");
  EXPECT_EQ(hint(hints, "198.51.100.4", "192.0.2.3"), "four.example");
  EXPECT_EQ(hints.size(), 4U);
  NameHints alone(2, 10);
  alone.learn(address("198.51.100.1"), answer("one.example", {1, 2, 3, 4}), 0);
  EXPECT_EQ(alone.size(), 2U);
  EXPECT_EQ(hint(alone, "198.51.100.1", "192.0.2.4"), "one.example");
}

TEST(NameHints, one_client_cannot_push_out_what_others_have) {
  NameHints hints(100, 80);
  const auto name = [](unsigned number) { return fmt::format("host{}.example", number); };
  for (unsigned client = 1; client <= 5; ++client) {
    for (unsigned host = 1; host <= 10; ++host)
      hints.learn(address(fmt::format("198.51.100.{}", client)), answer(name(client), {host}), 0);
  }
  for (unsigned round = 0; round < 20; ++round) {
    for (unsigned host = 1; host <= 200; ++host) hints.learn(address("203.0.113.9"), answer("busy.example", {host}), 0);
  }
  for (unsigned client = 1; client <= 5; ++client) {
    for (unsigned host = 1; host <= 10; ++host) {
      EXPECT_EQ(hint(hints, fmt::format("198.51.100.{}", client), fmt::format("192.0.2.{}", host)), name(client));
    }
  }
  EXPECT_EQ(hints.size(), 100U);
  EXPECT_EQ(hint(hints, "203.0.113.9", "192.0.2.200"), "busy.example") << "its own latest ones are there";
}

}  // namespace
}  // namespace limpid
