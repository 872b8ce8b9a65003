// An upgrade under the eyes of operators and supervisor: the handover, with a word to them before and afterwards, and what is left to do for the one who has handed over.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/log.h"
#include "limpid/interception.h"
#include "limpid/unique_fd.h"
#include "relay/relay.h"
#include "service/control_doors.h"
#include "service/cut_through.h"
#include "service/handover.h"

namespace limpid {

/// To be asked before they are moved elsewhere: the numbers stay.
[[nodiscard]] OperatorDoors describe_doors(const ControlDoors& doors);

/// hand_over(). A failure is logged, and shows in the supervisor's status.
[[nodiscard]] HandoverOutcome upgrade_supervised(const HandoverParts& parts,
                                                 std::optional<std::chrono::milliseconds> patience, const Scope& scope);

/// For who has ordered it, as JSON.
[[nodiscard]] std::string report_upgrade(const HandoverOutcome& outcome);

/// After a handover: serves flows that could not be moved until they end, `patience` is over or a signal comes; then ends the rest.
void finish_stays(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience);

/// Of the successor: what a predecessor would have kept if anything had gone wrong is ours. `offload` may be nullptr.
void own_everything(ControlDoors& doors, CutThroughOffload* offload, const UniqueFd& lock, const Logger& log);

}  // namespace limpid
