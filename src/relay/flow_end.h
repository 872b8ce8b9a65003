// How a flow ended, derived from what the kernel or the policy said, and the counter that goes with it.
#pragma once

#include "policy/decision.h"
#include "relay/counters.h"
#include "relay/decider.h"
#include "relay/flow.h"
#include "relay/flow_record.h"

namespace limpid {

/// For a connect(2) that failed with this errno.
[[nodiscard]] FlowEnd connect_failure(int code) noexcept;
[[nodiscard]] FlowEnd refusal_end(Refusal refusal) noexcept;
/// Of a flow that is refused or rejected.
[[nodiscard]] FlowEnd end_of(const FlowVerdict& verdict) noexcept;
/// Counts an end, where it has a counter; that of several datagrams at once.
void count_end(Counters& counters, FlowEnd end, std::uint64_t times = 1) noexcept;
/// A leg that had finished sending is not read any more, so a later RST of its peer shows only here. A hang-up of a leg
/// to which we have not sent our own FIN yet can mean nothing else.
void note_reset_after_finish(Flow& flow, bool is_target) noexcept;

}  // namespace limpid
