// RefusalNotice: when to tell the operator of connections that were reset because there was no room for them, and of how many. Pure: time and counts are given. The thread of the
// access log asks it (service/draining).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace limpid {

class RefusalNotice {
 public:
  using Clock = std::chrono::steady_clock;
  /// Between two messages.
  static constexpr std::chrono::minutes kEvery{1};
  /// After the first refusal: a burst is told of as one.
  static constexpr std::chrono::seconds kCollect{1};

  /// `refused`: what need not be told: a predecessor has.
  explicit RefusalNotice(std::uint64_t refused) noexcept : told_(refused) {}

  /// How many are to be told of now, of `refused` in all; 0: none. `last`: there is no later.
  [[nodiscard]] std::uint64_t due(std::uint64_t refused, Clock::time_point now, bool last) noexcept;

 private:
  std::uint64_t told_;
  std::optional<Clock::time_point> first_;  ///< when the first one was seen that has not been told
  Clock::time_point next_{};                ///< not before
};

}  // namespace limpid
