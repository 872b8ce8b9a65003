// What the main thread does while an instance runs: waits for signals, operators and news of the kernel, and does what they ask for. The start and the end are in service.cc.
#pragma once

#include <chrono>
#include <optional>

#include "base/log.h"
#include "policy/current_rules.h"
#include "relay/relay.h"
#include "service/cut_through.h"
#include "service/handover.h"
#include "service/instance_state.h"
#include "service/keeper.h"
#include "service/notify_socket.h"
#include "service/orders.h"
#include "service/reload.h"

namespace limpid {

/// What the main thread needs to obey operators.
struct Operators {
  ServiceOrders& orders;
  InstanceState& instance;
  const NotifySocket& supervisor;
  const HandoverParts& handover;
};

/// How run_until_end() came to it.
struct RunEnd {
  std::optional<std::chrono::milliseconds> patience{};  ///< of the drain, if somebody has said it
  bool handed_over = false;  ///< a successor has everything: there is nothing to be drained or removed
};

/// Reloads, hands over, and obeys operators, until a signal or one of them asks for the end. `cut_through` may be nullptr.
[[nodiscard]] RunEnd run_until_end(RulesKeeper& keeper, CutThroughOffload* cut_through, Relay& relay, const Logger& log,
                                   int signal_fd, Reloader& reloader, const CurrentRules& book,
                                   const Operators& operators, bool reloads_at_hangup);

}  // namespace limpid
