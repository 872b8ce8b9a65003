// Facts about the memory of wrong guesses: it is bounded, it forgets, and a guest of an IPv6 network is one, however many addresses he has.
#include "dashboard/attempt_limit.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace limpid {
namespace {

using Clock = PermitStore::Clock;
constexpr Clock::time_point kStart{std::chrono::hours(1)};

void be_wrong(AttemptLimit& limit, std::string_view address, Clock::time_point now) {
  for (int i = 0; i < static_cast<int>(AttemptLimit::kMost); ++i) limit.note_wrong(address, now);
}

TEST(AttemptLimit, counts_ipv6_by_network_and_mapped_addresses_as_what_they_are) {
  AttemptLimit limit;
  be_wrong(limit, "2001:db8:1:2::1", kStart);
  EXPECT_TRUE(limit.is_exhausted("2001:db8:1:2:ffff::9", kStart));
  EXPECT_FALSE(limit.is_exhausted("2001:db8:1:3::1", kStart));
  be_wrong(limit, "::ffff:192.0.2.1", kStart);
  EXPECT_TRUE(limit.is_exhausted("192.0.2.1", kStart));
  EXPECT_FALSE(limit.is_exhausted("192.0.2.2", kStart));
}

TEST(AttemptLimit, regains_one_guess_at_a_time) {
  AttemptLimit limit;
  be_wrong(limit, "192.0.2.1", kStart);
  EXPECT_TRUE(limit.is_exhausted("192.0.2.1", kStart + AttemptLimit::kInterval - std::chrono::milliseconds(1)));
  const auto later = kStart + AttemptLimit::kInterval + std::chrono::milliseconds(1);
  EXPECT_FALSE(limit.is_exhausted("192.0.2.1", later));
  limit.note_wrong("192.0.2.1", later);
  EXPECT_TRUE(limit.is_exhausted("192.0.2.1", later));
}

TEST(AttemptLimit, remembers_a_bounded_number_of_addresses_and_the_latest_of_them) {
  AttemptLimit limit;
  for (unsigned i = 0; i < 3 * AttemptLimit::kMostAddresses; ++i)
    be_wrong(limit, fmt::format("10.{}.{}.{}", i >> 16U, (i >> 8U) & 255U, i & 255U),
             kStart + std::chrono::milliseconds(i));
  EXPECT_EQ(limit.addresses(), AttemptLimit::kMostAddresses);
  const unsigned last = 3 * AttemptLimit::kMostAddresses - 1;
  EXPECT_TRUE(limit.is_exhausted(fmt::format("10.{}.{}.{}", last >> 16U, (last >> 8U) & 255U, last & 255U),
                                 kStart + std::chrono::milliseconds(last)));
  // Once they are as new, they make room all at once.
  limit.note_wrong("192.0.2.1", kStart + std::chrono::hours(1));
  EXPECT_EQ(limit.addresses(), 1U);
}

TEST(PermitStore, gives_at_most_what_it_holds) {
  PermitStore store(2, std::chrono::milliseconds(100));
  EXPECT_TRUE(store.take(kStart));
  EXPECT_TRUE(store.take(kStart));
  EXPECT_FALSE(store.take(kStart));
  EXPECT_TRUE(store.take(kStart + std::chrono::milliseconds(150)));
  EXPECT_FALSE(store.take(kStart + std::chrono::milliseconds(150)));
  EXPECT_TRUE(store.is_full(kStart + std::chrono::hours(1)));
}

}  // namespace
}  // namespace limpid
