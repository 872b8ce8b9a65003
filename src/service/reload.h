// Reloader: exchanges what may be exchanged while the service runs: rules and sets, and the scope. Everything or nothing; an error keeps what there was.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "intercept/plan.h"
#include "policy/current_rules.h"
#include "relay/name_lookups.h"
#include "service/keeper.h"
#include "service/service.h"
#include "service/upstreams.h"

namespace limpid {

/// Whether a running service can take over another value of this setting.
[[nodiscard]] bool is_reloadable(std::string_view setting) noexcept;
/// Whether this change of a setting can be taken over; none: the default.
[[nodiscard]] bool is_reloadable(std::string_view setting, const std::vector<std::string>& before,
                                 const std::vector<std::string>& after) noexcept;

class Reloader {
 public:
  /// `plan` is installed by `keeper`, and is changed together with the kernel. `names` may be nullptr. All outlive it.
  Reloader(ServiceOptions options, Plan& plan, RulesKeeper& keeper, std::shared_ptr<CurrentRules> book,
           Upstreams& upstreams, NameLookups* names, const Logger& log);

  /// The errors, each logged; none: done.
  [[nodiscard]] std::vector<Error> reload();
  [[nodiscard]] std::size_t rules() const noexcept { return options_.rules.size(); }
  /// The configuration at work as JSON; empty: none.
  [[nodiscard]] const std::string& description() const noexcept { return options_.description; }
  /// Ports at work.
  [[nodiscard]] const Scope& scope() const noexcept { return plan_.inputs.scope; }

 private:
  [[nodiscard]] std::vector<Error> try_reload();

  ServiceOptions options_;  ///< those at work
  bool in_doubt_ = false;   ///< the keeper may have put another plan into the kernel than plan_
  Plan& plan_;
  RulesKeeper& keeper_;
  std::shared_ptr<CurrentRules> book_;
  Upstreams& upstreams_;
  NameLookups* names_;
  const Logger& log_;
};

/// What a reload would make of `plan`, out of a configuration that has been read anew and is completed here by what the start has found out. The error: it cannot be
/// taken over while the service runs. Changes nothing, and comes to the same in every process that asks.
[[nodiscard]] Result<Plan> prepare_reload(const ServiceOptions& running, const Plan& plan, ServiceOptions& wanted,
                                          const Logger& log);

/// Marks that rules give to target legs must have no bit of the field that the interception uses.
[[nodiscard]] Status check_leg_marks(const std::vector<Rule>& rules, const MarkField& field);

/// Finds out which targets of rules are on this host, and takes out of the scope what rules bypass. Warns of bypass rules that the kernel is not told.
[[nodiscard]] Status adapt_to_rules(ServiceOptions& options, const Logger& log);

}  // namespace limpid
