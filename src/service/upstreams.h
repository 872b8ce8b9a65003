// Upstreams: what a verb that relays has to do with them: made ready at the start, exchanged by a reload, checked and looked up while it runs.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/confinement.h"
#include "base/log.h"
#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/interception.h"
#include "policy/rule.h"
#include "relay/upstream_checks.h"
#include "service/settings.h"
#include "service/upstream_names.h"
#include "upstream/groups.h"

namespace limpid {

struct UpstreamSurroundings {
  std::vector<SocketAddress> listeners;  ///< our own
  std::uint32_t bypass_mark = 0;
  std::uint32_t mark_mask = 0;  ///< the bits that are ours: upstreams' marks must have none of them
  bool may_change = false;      ///< a reload may bring some
  std::optional<UnprivilegedUser> resolver_user{};
};

class Upstreams {
 public:
  /// Those that would be ourselves are an error; those on this host see its own address, not a client's, because they would answer past us. Forks, if there are
  /// names to follow, so no thread may have been started.
  [[nodiscard]] static Result<std::unique_ptr<Upstreams>> open(const RelaySettings& settings,
                                                               UpstreamSurroundings surroundings, const Logger& log);

  /// nullptr where there are none, and never will be.
  [[nodiscard]] std::shared_ptr<const UpstreamGroups> groups() const noexcept { return groups_; }
  /// Number of the group that every flow goes through; 0: none. nullptr where groups() is.
  [[nodiscard]] std::shared_ptr<const std::atomic<std::uint16_t>> usual() const noexcept { return usual_; }
  /// Begins to check their health and to follow their names; what changes is logged.
  void begin();

  /// What is wrong with other settings, if anything; nothing changes.
  [[nodiscard]] Status check(const RelaySettings& settings) const;
  /// Their groups are at work from now on, for flows that begin.
  [[nodiscard]] Status take_over(const RelaySettings& settings);
  /// Which group a rule means, among those at work. Configurations are refused before with names that are not there.
  void number(std::vector<Rule>& rules) const;

 private:
  Upstreams(UpstreamSurroundings surroundings, const Logger& log) : surroundings_(std::move(surroundings)), log_(log) {}
  [[nodiscard]] Result<std::vector<UpstreamGroupOptions>> prepare(const RelaySettings& settings) const;
  void start_checks();

  UpstreamSurroundings surroundings_;
  const Logger& log_;
  std::shared_ptr<UpstreamGroups> groups_;
  std::shared_ptr<std::atomic<std::uint16_t>> usual_;
  std::unique_ptr<UpstreamNames> names_;  ///< nullptr: nothing to follow
  std::unique_ptr<UpstreamChecks> checks_;
  bool begun_ = false;
};

/// What an upstream on this host sends itself must not come back to it, where this host's own programs are in scope.
[[nodiscard]] Status exclude_upstreams(const RelaySettings& settings, Scope& scope, const Logger& log);

}  // namespace limpid
