// The timer wheel against a slow, obvious oracle: a map of deadlines.
#include "relay/timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace limpid {
namespace {

class Oracle {
 public:
  void schedule(std::uint32_t index, std::uint64_t deadline) { deadlines_[index] = deadline; }
  void cancel(std::uint32_t index) { deadlines_.erase(index); }
  [[nodiscard]] bool empty() const { return deadlines_.empty(); }
  /// What fires must be due, and what is overdue by more than a tick must fire.
  void check(std::uint64_t now, const std::vector<std::uint32_t>& expired) {
    for (const auto index : expired) {
      ASSERT_TRUE(deadlines_.contains(index)) << index << " was not scheduled";
      ASSERT_LE(deadlines_[index], now) << index << " fired early";
      deadlines_.erase(index);
    }
    for (const auto& [index, deadline] : deadlines_) {
      ASSERT_GT(deadline + TimerWheel::kTickMs, now) << index << " is late";
    }
  }

 private:
  std::map<std::uint32_t, std::uint64_t> deadlines_;
};

TEST(TimerWheel, agrees_with_the_oracle_over_random_operations) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    std::uint64_t now = 1'000'000 + seed * 7;
    TimerWheel wheel(now);
    Oracle oracle;
    for (int step = 0; step < 5000; ++step) {
      const auto index = static_cast<std::uint32_t>(random() % 300);
      switch (random() % 4) {
        case 0:
        case 1: {
          // Beyond the horizon (32 s) now and then.
          const std::uint64_t deadline = now + random() % (random() % 10 == 0 ? 200'000 : 2'000);
          wheel.schedule(index, deadline);
          oracle.schedule(index, deadline);
          break;
        }
        case 2:
          wheel.cancel(index);
          oracle.cancel(index);
          break;
        default: {
          now += random() % (random() % 50 == 0 ? 100'000 : 60);
          std::vector<std::uint32_t> expired;
          wheel.advance(now, expired);
          oracle.check(now, expired);
          ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << " step " << step;
        }
      }
      ASSERT_EQ(wheel.wait_ms(now) < 0, oracle.empty());
    }
  }
}

TEST(TimerWheel, waiting_as_told_always_makes_progress) {
  std::uint64_t now = 12'345;
  TimerWheel wheel(now);
  wheel.schedule(7, now + 100'000);
  std::vector<std::uint32_t> expired;
  int rounds = 0;
  while (expired.empty()) {
    const int wait = wheel.wait_ms(now);
    ASSERT_GT(wait, 0);
    now += static_cast<std::uint64_t>(wait);
    wheel.advance(now, expired);
    ASSERT_LT(++rounds, 10);
  }
  EXPECT_EQ(expired, std::vector<std::uint32_t>{7});
  EXPECT_GE(now, 12'345U + 100'000U);
  EXPECT_EQ(wheel.wait_ms(now), -1);
}

TEST(TimerWheel, says_exactly_how_long_to_wait) {
  constexpr std::uint64_t kHorizon = (TimerWheel::kSlots - 1) * TimerWheel::kTickMs;
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    const std::uint64_t now = random() % 1'000'000;
    TimerWheel wheel(now);
    const std::uint64_t deadline = now + 1 + random() % (kHorizon - TimerWheel::kTickMs);
    const std::uint64_t later = deadline + random() % kHorizon;
    wheel.schedule(1, later);
    wheel.schedule(0, deadline);
    const std::uint64_t tick = (deadline + TimerWheel::kTickMs - 1) / TimerWheel::kTickMs;
    ASSERT_EQ(wheel.wait_ms(now), static_cast<int>(tick * TimerWheel::kTickMs - now))
        << "now " << now << ", deadline " << deadline;
  }
}

TEST(TimerWheel, moving_a_deadline_leaves_no_trace_of_the_old_one) {
  TimerWheel wheel(0);
  wheel.schedule(1, 100);
  wheel.schedule(1, 5'000);
  std::vector<std::uint32_t> expired;
  wheel.advance(4'000, expired);
  EXPECT_TRUE(expired.empty());
  wheel.advance(5'100, expired);
  EXPECT_EQ(expired.size(), 1U);
}

}  // namespace
}  // namespace limpid
