// The iptables rules of a plan: what is captured, and what never is, as text for iptables-restore. The same for both variants of
// iptables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "intercept/plan.h"

namespace limpid {

/// The rules of one family, its tables in the order in which they are to be loaded: only the last one captures. Pure.
[[nodiscard]] XtablesRuleset render_xtables(const PlanInputs& inputs, Family family);

/// The same chains for the time of a drain: only those that change.
[[nodiscard]] XtablesRuleset render_draining_xtables(const PlanInputs& inputs, Family family);

/// Seconds without a heartbeat after which nobody is taken to listen.
[[nodiscard]] unsigned heart_patience_seconds(FailMode fail);

}  // namespace limpid
