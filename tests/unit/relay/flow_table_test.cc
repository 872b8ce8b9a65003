// The flow table against a slow, obvious oracle, and the refusal of stale ids.
#include "relay/flow_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace limpid {
namespace {

TEST(FlowTable, agrees_with_the_oracle_over_random_operations) {
  FlowTable table;
  std::map<FlowId, Flow*> oracle;
  std::vector<FlowId> dead;
  std::mt19937 random(1);
  for (int step = 0; step < 50'000; ++step) {
    if (oracle.empty() || random() % 5 < 3) {
      FlowId id;
      Flow* flow = table.create(id);
      ASSERT_NE(flow, nullptr);
      ASSERT_TRUE(oracle.emplace(id, flow).second) << "an id was given twice";
      flow->started_ms = static_cast<std::uint64_t>(step);
    } else {
      auto victim = oracle.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(random() % std::min<std::size_t>(oracle.size(), 20)));
      dead.push_back(victim->first);
      table.destroy(victim->first);
      oracle.erase(victim);
    }
    ASSERT_EQ(table.size(), oracle.size());
    if (!dead.empty()) {
      ASSERT_EQ(table.find(dead[random() % dead.size()]), nullptr) << "a stale id found a flow";
    }
  }
  for (const auto& [id, flow] : oracle) ASSERT_EQ(table.find(id), flow);
}

TEST(FlowTable, a_reused_slot_is_as_new_and_refuses_the_old_id) {
  FlowTable table;
  FlowId first;
  table.create(first)->up.bytes = 77;
  table.destroy(first);
  FlowId second;
  const Flow* flow = table.create(second);
  ASSERT_EQ(second.index, first.index);
  EXPECT_EQ(flow->up.bytes, 0U);
  EXPECT_EQ(table.find(first), nullptr);
  table.destroy(first);  // must not touch the new one
  EXPECT_EQ(table.find(second), flow);
  EXPECT_EQ(table.at(second.index), flow);
}

TEST(FlowTable, generations_of_living_flows_are_odd) {
  FlowTable table;
  FlowId id;
  ASSERT_NE(table.create(id), nullptr);
  EXPECT_EQ(id.generation % 2, 1U);  // the worker tells listeners (generation 0) from flows by it
}

}  // namespace
}  // namespace limpid
