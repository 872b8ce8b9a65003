// InstanceState: what a running instance says about itself besides what can be read from its parts: written by the main thread, read by the control API's.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace limpid {

/// Facts that the start has settled. Empty texts: does not apply.
struct InstanceFacts {
  std::string verb{};  ///< "run" or "relay"
  std::string name{};
  std::string backend{};
  std::vector<std::string> families{};
  std::vector<std::string> listeners{};
  std::string source{};
  std::string udp_source{};
  std::string fail{};
  std::string repair{};
  std::string mark{};
  std::uint32_t table = 0;
  std::uint32_t priority = 0;
  std::string config_file{};
  std::string control_path{};
  std::string metrics_address{};
  std::string dashboard_address{};
  std::int64_t started_us = 0;  ///< wall clock
};

struct ReloadOutcome {
  std::int64_t at_us = 0;  ///< wall clock
  bool ok = false;
  std::size_t rules = 0;
  std::vector<std::string> errors{};
  std::optional<std::size_t> ended{};  ///< flows that the new rules forbid; empty: they go on
};

/// What changes while it runs.
struct InstanceSituation {
  bool draining = false;
  bool confirmed = true;
  std::string tcp{};  ///< ports in scope
  std::string udp{};
  std::string description{};  ///< the configuration as JSON; empty: none
  std::optional<ReloadOutcome> last_reload{};
};

class InstanceState {
 public:
  InstanceState(InstanceFacts facts, InstanceSituation situation)
      : facts_(std::move(facts)), situation_(std::move(situation)) {}
  [[nodiscard]] const InstanceFacts& facts() const noexcept { return facts_; }
  [[nodiscard]] InstanceSituation situation() const {
    const std::lock_guard lock(mutex_);
    return situation_;
  }
  template <class Change>
  void change(Change change) {
    const std::lock_guard lock(mutex_);
    change(situation_);
  }

 private:
  const InstanceFacts facts_;
  mutable std::mutex mutex_;
  InstanceSituation situation_;
};

}  // namespace limpid
