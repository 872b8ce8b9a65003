// Rates out of two readings of the same instance. Owned by the live view; asks nobody.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "top/reading.h"

namespace limpid::top {

/// A flow with bytes a second.
struct RatedFlow {
  FlowReading flow;
  double up = 0;
  double down = 0;
  bool known = false;  ///< false: seen for the first time, so that the rates are 0
};

/// A second's worth of everything.
struct Rates {
  bool known = false;  ///< false after the first reading of an instance
  double up = 0;       ///< bytes
  double down = 0;
  double connections = 0;
  double sessions = 0;
  double refusals = 0;
};

class RateMeter {
 public:
  /// The next reading. One with lower counters comes from an instance that was started anew: everything begins again.
  void take(Reading reading);

  [[nodiscard]] bool empty() const noexcept { return !any_; }
  [[nodiscard]] const Reading& last() const noexcept { return last_; }  ///< its flows are in flows()
  [[nodiscard]] const Rates& rates() const noexcept { return rates_; }
  [[nodiscard]] const std::vector<RatedFlow>& flows() const noexcept { return flows_; }
  /// The newest at the end; at most kHistory.
  [[nodiscard]] const std::deque<Rates>& history() const noexcept { return history_; }

  static constexpr std::size_t kHistory = 512;

 private:
  struct Seen {
    std::uint64_t bytes_up;
    std::uint64_t bytes_down;
    std::chrono::steady_clock::time_point at;
  };

  bool any_ = false;
  Reading last_;
  Rates rates_;
  std::vector<RatedFlow> flows_;
  std::unordered_map<std::string, Seen> seen_;
  std::deque<Rates> history_;
};

}  // namespace limpid::top
