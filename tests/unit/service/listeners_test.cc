// How many workers there are, by what was asked for and what the backend can.
#include "service/listeners.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(CountWorkers, one_for_each_cpu_unless_told) {
  EXPECT_EQ(count_workers(0, 8, /*takes_several=*/true), 8U);
  EXPECT_EQ(count_workers(3, 8, /*takes_several=*/true), 3U);
}

TEST(CountWorkers, a_kernel_for_a_single_listener_gets_one_or_an_error) {
  EXPECT_EQ(count_workers(0, 8, /*takes_several=*/false), 1U);
  EXPECT_EQ(count_workers(1, 8, /*takes_several=*/false), 1U);
  const auto refused = count_workers(2, 8, /*takes_several=*/false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unsupported);
  EXPECT_NE(refused.error().message().find("--workers 1"), std::string::npos) << refused.error().message();
}

}  // namespace
}  // namespace limpid
