// One is not many, and none is.
#include "base/plural.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Counted, agrees_with_its_number) {
  EXPECT_EQ(counted(0, "flow"), "0 flows");
  EXPECT_EQ(counted(1, "flow"), "1 flow");
  EXPECT_EQ(counted(2, "UDP session"), "2 UDP sessions");
  EXPECT_EQ(counted(1, "entry", "entries"), "1 entry");
  EXPECT_EQ(counted(3, "entry", "entries"), "3 entries");
}

}  // namespace
}  // namespace limpid
