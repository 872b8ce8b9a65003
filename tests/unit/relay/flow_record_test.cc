// The ring between a worker and the access log: order, fullness, two threads.
#include "relay/flow_record.h"

#include <gtest/gtest.h>

#include <thread>

namespace limpid {
namespace {

TEST(RecordRing, refuses_when_full_and_keeps_what_it_has) {
  RecordRing ring;
  FlowRecord record;
  std::uint64_t pushed = 0;
  for (record.bytes_up = 0; ring.push(record); record.bytes_up = pushed) ++pushed;
  EXPECT_GT(pushed, 1000U);
  for (std::uint64_t i = 0; i < pushed; ++i) {
    ASSERT_TRUE(ring.pop(record));
    ASSERT_EQ(record.bytes_up, i);
  }
  EXPECT_FALSE(ring.pop(record));
}

TEST(RecordRing, hands_every_record_to_another_thread_in_order) {
  RecordRing ring;
  constexpr std::uint64_t kRecords = 200'000;
  std::jthread producer([&] {
    FlowRecord produced;
    for (std::uint64_t i = 0; i < kRecords;) {
      produced.bytes_up = i;
      produced.bytes_down = ~i;
      if (ring.push(produced)) ++i;
    }
  });
  FlowRecord record;
  for (std::uint64_t i = 0; i < kRecords;) {
    if (!ring.pop(record)) continue;
    ASSERT_EQ(record.bytes_up, i);
    ASSERT_EQ(record.bytes_down, ~i);
    ++i;
  }
}

TEST(FlowEnd, every_end_has_a_name) {
  for (int i = 0; i <= static_cast<int>(FlowEnd::error); ++i) {
    EXPECT_FALSE(to_string(static_cast<FlowEnd>(i)).empty()) << i;
  }
}

}  // namespace
}  // namespace limpid
