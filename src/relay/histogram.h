// DurationHistogram: how often something took how long, in fixed buckets. One writer, a worker; anybody may read it at any time without locks.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace limpid {

/// What was read of one, or of several together. The counts are of each bucket alone; the last one is for what is longer than every bound.
struct HistogramReading {
  static constexpr std::size_t kBuckets = 16;
  std::array<std::uint64_t, kBuckets> counts{};
  std::uint64_t sum_us = 0;

  HistogramReading& operator+=(const HistogramReading& other) noexcept {
    for (std::size_t i = 0; i < kBuckets; ++i) counts[i] += other.counts[i];
    sum_us += other.sum_us;
    return *this;
  }
};

class DurationHistogram {
 public:
  /// Upper bounds, inclusive, from a connection in the same rack to a flow of a day.
  static constexpr std::array<std::chrono::microseconds, HistogramReading::kBuckets - 1> kBounds{
      std::chrono::microseconds{500}, std::chrono::milliseconds{1},  std::chrono::milliseconds{5},
      std::chrono::milliseconds{10},  std::chrono::milliseconds{50}, std::chrono::milliseconds{100},
      std::chrono::milliseconds{500}, std::chrono::seconds{1},       std::chrono::seconds{5},
      std::chrono::seconds{10},       std::chrono::seconds{60},      std::chrono::seconds{300},
      std::chrono::seconds{1800},     std::chrono::seconds{7200},    std::chrono::seconds{86400}};

  /// By the owner only: a plain load and store, because nobody else writes.
  void add(std::chrono::microseconds duration) noexcept {
    const auto bucket = static_cast<std::size_t>(std::ranges::lower_bound(kBounds, duration) - kBounds.begin());
    increase(counts_[bucket], 1);
    increase(sum_us_, static_cast<std::uint64_t>(std::max<std::int64_t>(0, duration.count())));
  }
  [[nodiscard]] HistogramReading read() const noexcept {
    HistogramReading reading;
    for (std::size_t i = 0; i < HistogramReading::kBuckets; ++i)
      reading.counts[i] = counts_[i].load(std::memory_order_relaxed);
    reading.sum_us = sum_us_.load(std::memory_order_relaxed);
    return reading;
  }

 private:
  static void increase(std::atomic<std::uint64_t>& value, std::uint64_t amount) noexcept {
    value.store(value.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  std::array<std::atomic<std::uint64_t>, HistogramReading::kBuckets> counts_{};
  std::atomic<std::uint64_t> sum_us_{0};
};

}  // namespace limpid
