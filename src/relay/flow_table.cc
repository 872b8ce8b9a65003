// Chunks of slots with a free list. A slot's generation is odd while a flow lives in it and grows by one at each birth
// and end.
#include "relay/flow_table.h"

#include <new>

namespace limpid {

Flow* FlowTable::create(FlowId& id) noexcept {
  if (free_.empty() && !grow()) return nullptr;
  id.index = free_.back();
  free_.pop_back();
  Flow& flow = slot(id.index);
  id.generation = ++flow.generation;
  ++size_;
  return &flow;
}

Flow* FlowTable::find(FlowId id) noexcept {
  Flow* flow = at(id.index);
  return flow != nullptr && flow->generation == id.generation ? flow : nullptr;
}

Flow* FlowTable::at(std::uint32_t index) noexcept {
  if (index >= capacity()) return nullptr;
  Flow& flow = slot(index);
  return (flow.generation & 1U) != 0 ? &flow : nullptr;
}

void FlowTable::destroy(FlowId id) noexcept {
  Flow* flow = find(id);
  if (flow == nullptr) return;
  const std::uint32_t generation = flow->generation + 1;
  *flow = Flow{};
  flow->generation = generation;
  free_.push_back(id.index);  // never allocates: grow() reserved for all
  --size_;
}

bool FlowTable::grow() noexcept {
  try {
    const auto first = capacity();
    free_.reserve(first + kChunk);
    chunks_.push_back(std::make_unique<std::array<Flow, kChunk>>());
    // Descending, so that low indices are used first and stay warm.
    for (std::size_t i = kChunk; i > 0; --i) free_.push_back(first + static_cast<std::uint32_t>(i - 1));
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

}  // namespace limpid
