// What the control API says about an instance, as JSON text of one line each. The schema is that of docs/control.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "policy/current_rules.h"
#include "relay/relay.h"
#include "service/instance_state.h"
#include "service/plan_guard.h"

namespace limpid {

/// `plan` may be nullptr.
[[nodiscard]] std::string report_status(const Relay& relay, const InstanceState& instance, const PlanCondition* plan,
                                        LogLevel level);
/// `rules` may be nullptr.
[[nodiscard]] std::string report_rules(const CurrentRules* rules);
[[nodiscard]] std::string report_counters(const Relay& relay);
[[nodiscard]] std::string report_upstreams(const Relay& relay);
[[nodiscard]] std::string report_log_level(LogLevel level);
/// {"ok": false, "errors": [...]}
[[nodiscard]] std::string report_errors(const std::vector<std::string>& errors);
/// {"ok": true, "configuration": ...}; empty: there is none.
[[nodiscard]] std::string report_configuration(const std::string& description);
/// What was ordered, and done: {"ok": true, "rules": 3}
[[nodiscard]] std::string report_reload(const ReloadOutcome& outcome);

}  // namespace limpid
