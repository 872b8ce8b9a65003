// Refused connections are told of in bursts, once a minute, and none is told twice or forgotten.
#include "service/refusal_notice.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr RefusalNotice::Clock::time_point kStart{std::chrono::hours(1)};

TEST(RefusalNotice, a_burst_is_told_of_as_one) {
  RefusalNotice notice(0);
  EXPECT_EQ(notice.due(0, kStart, false), 0U);
  EXPECT_EQ(notice.due(3, kStart, false), 0U);
  EXPECT_EQ(notice.due(20, kStart + milliseconds(999), false), 0U);
  EXPECT_EQ(notice.due(25, kStart + seconds(1), false), 25U);
  EXPECT_EQ(notice.due(25, kStart + seconds(2), false), 0U);
}

TEST(RefusalNotice, no_more_than_one_a_minute) {
  RefusalNotice notice(0);
  EXPECT_EQ(notice.due(1, kStart, false), 0U);
  EXPECT_EQ(notice.due(1, kStart + seconds(1), false), 1U);
  EXPECT_EQ(notice.due(9, kStart + seconds(5), false), 0U);
  EXPECT_EQ(notice.due(9, kStart + seconds(60), false), 0U);
  EXPECT_EQ(notice.due(11, kStart + seconds(61), false), 10U);
}

TEST(RefusalNotice, at_the_end_nothing_waits) {
  RefusalNotice notice(0);
  EXPECT_EQ(notice.due(4, kStart, true), 4U);
  EXPECT_EQ(notice.due(6, kStart, true), 2U);
  EXPECT_EQ(notice.due(6, kStart, true), 0U);
}

TEST(RefusalNotice, what_a_predecessor_has_refused_is_not_told) {
  RefusalNotice notice(100);
  EXPECT_EQ(notice.due(100, kStart, true), 0U);
  EXPECT_EQ(notice.due(101, kStart, true), 1U);
}

}  // namespace
}  // namespace limpid
