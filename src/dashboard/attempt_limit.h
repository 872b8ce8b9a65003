// AttemptLimit: how often somebody may be wrong, and how often somebody may ask. Pure but for its memory, which is bounded; the clock is the caller's.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace limpid {

/// A store of permits that refills steadily.
class PermitStore {
 public:
  using Clock = std::chrono::steady_clock;
  /// `most` at once; one more each `interval`.
  PermitStore(double most, std::chrono::milliseconds interval) noexcept
      : most_(most), interval_(interval), left_(most) {}
  /// Takes one, if there is one.
  [[nodiscard]] bool take(Clock::time_point now) noexcept;
  [[nodiscard]] bool is_empty(Clock::time_point now) const noexcept { return left_at(now) < 1; }
  /// Nothing was taken for so long that it is as new.
  [[nodiscard]] bool is_full(Clock::time_point now) const noexcept { return left_at(now) >= most_; }

 private:
  [[nodiscard]] double left_at(Clock::time_point now) const noexcept;
  double most_;
  std::chrono::milliseconds interval_;
  double left_;
  Clock::time_point since_{};
};

/// Wrong guesses, counted for each address; IPv6 by /64, which is what one guest of a network has at least.
class AttemptLimit {
 public:
  static constexpr double kMost = 5;
  static constexpr std::chrono::milliseconds kInterval{10'000};
  /// With more addresses than this the one that was wrong longest ago is forgotten.
  static constexpr std::size_t kMostAddresses = 1024;

  /// Whether this address was wrong so often that its next guess is not even looked at.
  [[nodiscard]] bool is_exhausted(std::string_view address, PermitStore::Clock::time_point now);
  void note_wrong(std::string_view address, PermitStore::Clock::time_point now);
  [[nodiscard]] std::size_t addresses() const noexcept { return stores_.size(); }

 private:
  struct Store {
    PermitStore permits{kMost, kInterval};
    PermitStore::Clock::time_point last{};
  };
  std::map<std::string, Store, std::less<>> stores_;
};

}  // namespace limpid
