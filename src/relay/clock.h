// The two clocks of the relay: one that only runs forward, for deadlines and durations, and the one on the wall, for the access log.
// Read by the workers and their UDP engines; tests hand times in instead.
#pragma once

#include <chrono>
#include <cstdint>

namespace limpid {

/// Milliseconds of the monotonic clock (CLOCK_MONOTONIC).
[[nodiscard]] inline std::uint64_t monotonic_ms() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

/// Its low 32 bits in microseconds: for durations of less than an hour.
[[nodiscard]] inline std::uint32_t monotonic_us_low() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

/// Microseconds since the epoch.
[[nodiscard]] inline std::int64_t wall_clock_us() noexcept {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

}  // namespace limpid
