// Deadlines of flows: a hashed timer wheel, O(1) to set and to clear, without allocation once its slots exist.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

namespace limpid {

/// Times are milliseconds of one monotonic clock. A deadline fires at most one tick late and never early. Deadlines
/// beyond the wheel's horizon travel round it. One thread only.
class TimerWheel {
 public:
  explicit TimerWheel(std::uint64_t now_ms);

  /// Sets or moves the one deadline of `index` (a flow's slot in the flow table).
  void schedule(std::uint32_t index, std::uint64_t deadline_ms);
  /// Clears it; nothing happens where none is set.
  void cancel(std::uint32_t index) noexcept;
  /// Appends to `expired` every index whose deadline has passed by `now_ms`, and clears it.
  void advance(std::uint64_t now_ms, std::vector<std::uint32_t>& expired);
  /// How long a caller may wait from `now_ms` before calling advance(); -1: for ever.
  [[nodiscard]] int wait_ms(std::uint64_t now_ms) const noexcept;

  static constexpr std::uint64_t kTickMs = 16;
  static constexpr std::size_t kSlots = 2048;  ///< a horizon of 32 s

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  struct Node {
    std::uint32_t next = kNone;
    std::uint32_t previous = kNone;
    std::uint32_t slot = kNone;  ///< kNone: not scheduled
    std::uint64_t deadline_ms = 0;
  };
  void link(std::uint32_t index, std::uint64_t tick);
  void unlink(std::uint32_t index) noexcept;

  std::vector<Node> nodes_;  ///< by index
  std::array<std::uint32_t, kSlots> heads_{};
  static constexpr std::size_t kWordBits = 64;
  [[nodiscard]] bool is_occupied(std::size_t slot) const noexcept {
    return ((occupied_[slot / kWordBits] >> (slot % kWordBits)) & 1) != 0;
  }
  void set_occupied(std::size_t slot, bool occupied) noexcept;

  /// A bit for each slot, in words, because wait_ms() runs once for every batch of events and looks for the next one.
  std::array<std::uint64_t, kSlots / kWordBits> occupied_{};
  std::uint64_t current_tick_;  ///< every tick before it has been handled
};

}  // namespace limpid
