// Facts about groups: whose turn it is, who is down, and for how long.
#include "upstream/group.h"

#include <gtest/gtest.h>

#include <map>

namespace limpid {
namespace {

UpstreamGroupOptions three(UpstreamChoice choice) {
  UpstreamGroupOptions options;
  options.name = "office";
  options.choice = choice;
  for (const char* url : {"socks5://10.0.0.1", "http://10.0.0.2", "socks4://10.0.0.3"}) {
    options.members.push_back(parse_upstream(url).value());
  }
  return options;
}

UpstreamGroup::Question from(const char* client, UpstreamGroup::Tried tried = 0) {
  return {.client = IpAddress::parse(client).value(),
          .destination = SocketAddress::parse("198.51.100.2:80").value(),
          .tried = tried};
}

IpAddress client_number(unsigned i) {
  return IpAddress::from_bytes(Family::ipv4, {10, 1, static_cast<std::uint8_t>(i >> 8U), static_cast<std::uint8_t>(i)});
}

TEST(UpstreamGroup, in_order_the_first_that_was_not_tried) {
  UpstreamGroup group(three(UpstreamChoice::order));
  EXPECT_EQ(group.choose(from("192.0.2.2"), 0), 0U);
  EXPECT_EQ(group.choose(from("192.0.2.2", 0b001), 0), 1U);
  EXPECT_EQ(group.choose(from("192.0.2.2", 0b011), 0), 2U);
  EXPECT_EQ(group.choose(from("192.0.2.2", 0b111), 0), std::nullopt);
}

TEST(UpstreamGroup, round_robin_gives_each_its_turn) {
  UpstreamGroup group(three(UpstreamChoice::round_robin));
  std::map<unsigned, int> turns;
  for (int i = 0; i < 30; ++i) ++turns[group.choose(from("192.0.2.2"), 0).value()];
  EXPECT_EQ(turns, (std::map<unsigned, int>{{0, 10}, {1, 10}, {2, 10}}));
}

TEST(UpstreamGroup, least_latency_prefers_the_fastest_and_tries_the_unknown) {
  UpstreamGroup group(three(UpstreamChoice::least_latency));
  group.succeeded(0, 5000);
  group.succeeded(1, 1000);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 0), 2U);
  group.succeeded(2, 9000);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 0), 1U);
  for (int i = 0; i < 50; ++i) group.succeeded(1, 90'000);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 0), 0U);
}

TEST(UpstreamGroup, a_source_keeps_its_upstream_when_another_goes_down) {
  UpstreamGroup group(three(UpstreamChoice::source_hash));
  std::map<unsigned, unsigned> before;
  std::map<unsigned, int> spread;
  constexpr unsigned kClients = 600;
  for (unsigned i = 0; i < kClients; ++i) {
    auto question = from("192.0.2.2");
    question.client = client_number(i);
    before[i] = group.choose(question, 0).value();
    ++spread[before[i]];
  }
  for (const auto& [member, clients] : spread) EXPECT_NEAR(clients, kClients / 3, 60) << member;
  for (int i = 0; i < 3; ++i) group.failed(1, 0);
  for (unsigned i = 0; i < kClients; ++i) {
    auto question = from("192.0.2.2");
    question.client = client_number(i);
    const auto now = group.choose(question, 0).value();
    EXPECT_NE(now, 1U);
    if (before[i] != 1) {
      EXPECT_EQ(now, before[i]);
    }
  }
}

TEST(UpstreamGroup, who_fails_in_a_row_is_down_until_checks_bring_it_up) {
  UpstreamGroup group(three(UpstreamChoice::order));
  group.failed(0, 0);
  group.failed(0, 0);
  group.succeeded(0, 100);
  group.failed(0, 0);
  group.failed(0, 0);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 0), 0U);
  group.failed(0, 0);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 1'000'000), 1U) << "checked members wait for a check";
  EXPECT_FALSE(group.checked(0, true, 100));
  EXPECT_FALSE(group.state(0).up);
  EXPECT_TRUE(group.checked(0, true, 100));
  EXPECT_EQ(group.choose(from("192.0.2.2"), 0), 0U);
  EXPECT_EQ(group.state(0).failures, 5U);
}

TEST(UpstreamGroup, without_checks_it_is_tried_again_after_a_while) {
  auto options = three(UpstreamChoice::order);
  options.check_interval = std::chrono::milliseconds{0};
  UpstreamGroup group(std::move(options));
  for (int i = 0; i < 3; ++i) group.failed(0, 1000);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 1000 + UpstreamGroup::kRetryMs - 1), 1U);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 1000 + UpstreamGroup::kRetryMs), 0U);
  group.failed(0, 1000 + UpstreamGroup::kRetryMs);
  EXPECT_EQ(group.choose(from("192.0.2.2"), 1001 + UpstreamGroup::kRetryMs), 1U) << "one more failure suffices";
}

TEST(UpstreamGroup, who_cannot_carry_it_is_passed_over) {
  UpstreamGroup group(three(UpstreamChoice::order));
  auto question = from("2001:db8::1", 0b011);
  question.destination = SocketAddress::parse("[2001:db8::2]:80").value();
  EXPECT_EQ(group.choose(question, 0), std::nullopt) << "SOCKS4 knows no IPv6";
  question = from("192.0.2.2", 0b001);
  question.datagrams = true;
  EXPECT_EQ(group.choose(question, 0), std::nullopt) << "only SOCKS5 carries datagrams";
}

}  // namespace
}  // namespace limpid
