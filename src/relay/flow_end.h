// How a flow ended, derived from what the kernel or the policy said, and the counter that goes with it.
#pragma once

#include "policy/decision.h"
#include "relay/counters.h"
#include "relay/flow_record.h"

namespace limpid {

/// For a connect(2) that failed with this errno.
[[nodiscard]] FlowEnd connect_failure(int code) noexcept;
[[nodiscard]] FlowEnd refusal_end(Refusal refusal) noexcept;
/// Counts an end, where it has a counter.
void count_end(Counters& counters, FlowEnd end) noexcept;

}  // namespace limpid
