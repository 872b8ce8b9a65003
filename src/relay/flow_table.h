// FlowTable: all flows of one worker. Slots never move, freed ones are used again first. One thread, no locks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "relay/flow.h"

namespace limpid {

class FlowTable {
 public:
  /// A fresh flow, or nullptr when there is no memory. `id` names it.
  [[nodiscard]] Flow* create(FlowId& id) noexcept;
  /// nullptr when the flow that `id` named is gone.
  [[nodiscard]] Flow* find(FlowId id) noexcept;
  /// The flow that lives in this slot, nullptr if none does.
  [[nodiscard]] Flow* at(std::uint32_t index) noexcept;
  /// Ends the flow and closes its sockets. Borrowed buffers must have been given back before.
  void destroy(FlowId id) noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// Slots, used and free: indices are smaller than this.
  [[nodiscard]] std::uint32_t capacity() const noexcept { return static_cast<std::uint32_t>(chunks_.size() * kChunk); }

 private:
  static constexpr std::size_t kChunk = 256;
  [[nodiscard]] bool grow() noexcept;
  [[nodiscard]] Flow& slot(std::uint32_t index) noexcept { return (*chunks_[index / kChunk])[index % kChunk]; }

  std::vector<std::unique_ptr<std::array<Flow, kChunk>>> chunks_;
  std::vector<std::uint32_t> free_;
  std::size_t size_ = 0;
};

}  // namespace limpid
