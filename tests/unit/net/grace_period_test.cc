// A moment that was named passes, by itself, and in order.
#include "net/grace_period.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace limpid {
namespace {

void wait_for(const GracePeriods& periods, std::uint64_t moment) {
  while (!periods.passed(moment)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(GracePeriods, a_moment_passes) {
  GracePeriods periods;
  for (int i = 0; i < 3; ++i) {
    const auto moment = periods.ask();
    wait_for(periods, moment);
    EXPECT_GT(periods.ask(), moment) << "a grace period that is over says nothing of later packets";
  }
}

TEST(GracePeriods, one_serves_all_who_ask_before_it_begins) {
  GracePeriods periods;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int asked = 0; asked < 20; ++asked) wait_for(periods, periods.ask());
    });
  }
  threads.clear();
  EXPECT_LE(periods.ask(), 8U * 20 + 1);
}

TEST(GracePeriods, ends_while_it_is_asked) {
  GracePeriods periods;
  EXPECT_FALSE(periods.passed(periods.ask() + 1));
}

}  // namespace
}  // namespace limpid
