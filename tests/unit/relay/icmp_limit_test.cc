// How many ICMP errors may leave, on a clock of the test's own.
#include "relay/icmp_limit.h"

#include <gtest/gtest.h>

#include <array>

namespace limpid {
namespace {

IpAddress host(std::uint8_t number, Family family = Family::ipv4) {
  std::array<std::uint8_t, 16> bytes{10, 0, 0, number};
  return IpAddress::from_bytes(family, bytes);
}

unsigned allowed(IcmpLimit& limit, const IpAddress& to, std::uint64_t now_ms, unsigned tries) {
  unsigned count = 0;
  for (unsigned i = 0; i < tries; ++i) count += limit.allow(to, now_ms) ? 1U : 0U;
  return count;
}

TEST(IcmpLimit, a_host_gets_six_at_once_and_then_one_an_interval) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    IcmpLimit limit({.ipv4_ms = 1000, .ipv6_ms = 1000}, 42);
    EXPECT_EQ(allowed(limit, host(1, family), 5, 40), 6U);
    EXPECT_EQ(allowed(limit, host(1, family), 1004, 40), 0U);
    EXPECT_EQ(allowed(limit, host(1, family), 1005, 40), 1U);
    EXPECT_EQ(allowed(limit, host(1, family), 4005, 40), 3U);
    EXPECT_EQ(allowed(limit, host(1, family), 1'000'000, 40), 6U) << "a long silence saves up no more than a burst";
  }
}

TEST(IcmpLimit, each_family_has_its_own_interval) {
  IcmpLimit limit({.ipv4_ms = 1000, .ipv6_ms = 100}, 42);
  for (const Family family : {Family::ipv4, Family::ipv6}) EXPECT_EQ(allowed(limit, host(1, family), 0, 10), 6U);
  EXPECT_EQ(allowed(limit, host(1), 300, 10), 0U);
  EXPECT_EQ(allowed(limit, host(1, Family::ipv6), 300, 10), 3U);
}

TEST(IcmpLimit, one_host_does_not_use_up_what_another_may_have) {
  IcmpLimit limit({}, 42);
  EXPECT_EQ(allowed(limit, host(1), 0, 1000), 6U);
  EXPECT_EQ(allowed(limit, host(2), 0, 1000), 6U);
}

TEST(IcmpLimit, all_hosts_together_get_fifty_at_once_and_then_a_thousand_a_second) {
  for (const std::uint64_t interval : {std::uint64_t{0}, std::uint64_t{1000}}) {
    IcmpLimit limit({.ipv4_ms = interval, .ipv6_ms = interval}, 42);
    unsigned count = 0;
    for (unsigned i = 0; i < 200; ++i) count += limit.allow(host(static_cast<std::uint8_t>(i)), 0) ? 1U : 0U;
    EXPECT_EQ(count, 50U);
    for (std::uint64_t now = 1; now <= 10; ++now) {
      EXPECT_EQ(allowed(limit, host(static_cast<std::uint8_t>(200 + now)), now, 1), 1U);
    }
  }
}

TEST(IcmpLimit, no_interval_is_no_limit_for_one_host) {
  IcmpLimit limit({.ipv4_ms = 0, .ipv6_ms = 0}, 42);
  EXPECT_EQ(allowed(limit, host(1), 0, 40), 40U);
}

}  // namespace
}  // namespace limpid
