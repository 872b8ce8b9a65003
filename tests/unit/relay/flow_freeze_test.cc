// Workers that stand still, those that come late, and those that never come.
#include "relay/flow_freeze.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <thread>

namespace limpid {
namespace {

using Decision = FlowFreeze::Decision;

FlowFreeze::Decision stand(FlowFreeze& freeze, std::uint16_t worker, std::size_t flows) {
  WorkerState state;
  state.flows = flows;
  return freeze.stand_still(worker, std::move(state));
}

std::chrono::steady_clock::time_point in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

TEST(FlowFreeze, all_stand_still_until_it_is_decided) {
  for (const Decision decision : {Decision::thaw, Decision::part}) {
    FlowFreeze freeze(2);
    std::array<Decision, 2> heard{};
    std::thread one([&] { heard[0] = stand(freeze, 0, 3); });
    std::thread other([&] { heard[1] = stand(freeze, 1, 4); });
    ASSERT_TRUE(freeze.await(in(std::chrono::seconds(10))));
    EXPECT_EQ(freeze.states()[0].flows + freeze.states()[1].flows, 7U);
    EXPECT_EQ(freeze.decision(), Decision::open);
    freeze.decide(decision);
    freeze.decide(Decision::thaw);  // too late to change anything
    one.join();
    other.join();
    EXPECT_EQ(heard[0], decision);
    EXPECT_EQ(heard[1], decision);
  }
}

TEST(FlowFreeze, who_comes_after_the_decision_follows_it_at_once) {
  FlowFreeze freeze(2);
  EXPECT_FALSE(freeze.await(in(std::chrono::milliseconds(1))));
  freeze.decide(Decision::thaw);
  EXPECT_EQ(stand(freeze, 1, 1), Decision::thaw);
}

TEST(FlowFreeze, a_worker_that_has_ended_is_not_waited_for) {
  FlowFreeze freeze(1);
  freeze.miss();
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(freeze.await(in(std::chrono::seconds(30))));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10));
}

}  // namespace
}  // namespace limpid
