// What an instance counts, as Prometheus' text exposition format 0.0.4. Labels are numbers and words of ours: never an address, a name, or anything else
// that strangers choose.
#pragma once

#include <string>

#include "policy/current_rules.h"
#include "relay/relay.h"
#include "service/instance_state.h"
#include "service/plan_guard.h"

namespace limpid {

/// Both pointers may be nullptr: no rules, nothing to guard.
[[nodiscard]] std::string render_metrics(const Relay& relay, const InstanceState& instance, const CurrentRules* rules,
                                         const PlanCondition* plan);

}  // namespace limpid
