// Whether a flow may leave the relay: each reason to stay, alone.
#include "relay/offload_decision.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace limpid {
namespace {

constexpr std::uint32_t kSegment = 1448;
constexpr std::uint32_t kWindow = 65'160;

TcpTraits agreed() {
  return {.established = true,
          .timestamps = true,
          .sack = true,
          .peer_scale = 7,
          .our_scale = 7,
          .advertised = kSegment,
          .segment = kSegment};
}

/// A leg just after its handshake, at these sequence numbers, with equal windows both ways.
LegFacts fresh(std::uint32_t ours, std::uint32_t theirs) {
  return {.traits = agreed(),
          .position = {.written = ours,
                       .received = theirs,
                       .read = theirs,
                       .announced_end = theirs + kWindow,
                       .allowed_end = ours + kWindow}};
}

TEST(OffloadDecision, equal_handshakes_may_go) {
  EXPECT_EQ(compare_handshakes(agreed(), agreed()), std::nullopt);
  TcpTraits other = agreed();
  other.peer_scale = other.our_scale = 14;
  other.received = 1'000'000;
  EXPECT_EQ(compare_handshakes(agreed(), other), std::nullopt) << "scales are translated";
}

TEST(OffloadDecision, each_difference_of_handshakes_has_a_name) {
  struct Case {
    StayReason reason;
    bool TcpTraits::* flag;
  };
  for (const auto& [reason, flag] :
       {Case{StayReason::half_closed, &TcpTraits::established},
        Case{StayReason::timestamps_differ, &TcpTraits::timestamps}, Case{StayReason::sack_differs, &TcpTraits::sack},
        Case{StayReason::ecn_differs, &TcpTraits::ecn},
        Case{StayReason::microsecond_clock, &TcpTraits::microseconds}}) {
    TcpTraits other = agreed();
    other.*flag = !(other.*flag);
    EXPECT_EQ(compare_handshakes(agreed(), other), reason);
    EXPECT_EQ(compare_handshakes(other, agreed()), reason);
  }
}

TEST(OffloadDecision, no_end_may_send_more_than_the_other_takes) {
  TcpTraits small = agreed();
  small.segment = kSegment - 1;
  EXPECT_EQ(compare_handshakes(agreed(), small), StayReason::segment_size)
      << "the client would send the target too much";
  EXPECT_EQ(compare_handshakes(small, agreed()), StayReason::segment_size) << "or the other way";
  small.advertised = kSegment - 1;
  EXPECT_EQ(compare_handshakes(small, small), std::nullopt);
}

TEST(OffloadDecision, nothing_may_wait_to_be_sent_nor_for_a_gap_to_close) {
  const TcpQueues busy{.unread = 5, .unacknowledged = 1'000, .receive_memory = 4'000};
  EXPECT_EQ(compare_queues({}, {}), std::nullopt);
  EXPECT_EQ(compare_queues(busy, busy), std::nullopt);
  for (const auto& [queues, reason] : {std::pair{TcpQueues{.unsent = 1}, StayReason::bytes_unsent},
                                       std::pair{TcpQueues{.receive_memory = 2'304}, StayReason::out_of_order}}) {
    EXPECT_EQ(compare_queues(queues, {}), reason);
    EXPECT_EQ(compare_queues({}, queues), reason);
    EXPECT_TRUE(is_momentary(reason));
  }
}

/// Anywhere in a sequence space that wraps around, on both legs.
TEST(OffloadDecision, equal_windows_may_go_wherever_the_numbers_stand) {
  for (const std::uint32_t client : {0U, 1U, 0x7fff'ffffU, 0xffff'0000U, 0xffff'ffffU}) {
    for (const std::uint32_t target : {0U, 0x8000'0000U, 0xffff'ff00U}) {
      EXPECT_EQ(compare_windows(fresh(client, ~client), fresh(target, target + 77)), std::nullopt)
          << client << ' ' << target;
    }
  }
}

TEST(OffloadDecision, the_delta_does_not_change_with_what_is_relayed) {
  TcpPosition client{.written = 100, .received = 0xffff'fff0, .read = 0xffff'fff0};
  TcpPosition target{.written = 0xffff'ffe0, .received = 7, .read = 7};
  const auto before = sequence_delta(client, target);
  client.received += 100;  // arrived
  EXPECT_EQ(sequence_delta(client, target), before);
  client.read += 100;  // read and written
  target.written += 100;
  EXPECT_EQ(sequence_delta(client, target), before);
}

TEST(OffloadDecision, what_is_under_way_must_fit_the_other_window) {
  // The client has been told of a megabyte and has shown that it can fill it; the target has room for a window.
  LegFacts client = fresh(1'000, 2'000);
  const LegFacts target = fresh(3'000, 4'000);
  client.position.announced_end = client.position.received + 1'000'000;
  client.traits.received = 10'000'000;
  EXPECT_EQ(compare_windows(client, target), StayReason::window_up);
  EXPECT_EQ(compare_windows(target, client), StayReason::window_down);
  // A client that has only begun cannot have more under way than ten segments.
  client.traits.received = 500;
  EXPECT_EQ(compare_windows(client, target), std::nullopt);
  // What lies unread in our socket needs room at the target as well.
  client.position.received += kWindow;
  EXPECT_EQ(compare_windows(client, target), StayReason::window_up);
}

TEST(OffloadDecision, a_window_that_fits_to_the_byte) {
  LegFacts client = fresh(1'000, 2'000);
  LegFacts target = fresh(3'000, 4'000);
  client.traits.received = 1'000'000;
  EXPECT_EQ(compare_windows(client, target), std::nullopt);
  ++client.position.announced_end;
  EXPECT_EQ(compare_windows(client, target), StayReason::window_up);
}

TEST(OffloadDecision, every_reason_has_a_name_of_its_own) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kStayReasonCount; ++i) {
    const auto name = to_string(static_cast<StayReason>(i));
    EXPECT_TRUE(name.starts_with("stayed_")) << name;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_FALSE(is_momentary(StayReason::refused));
  EXPECT_TRUE(is_momentary(StayReason::unreadable));
}

}  // namespace
}  // namespace limpid
