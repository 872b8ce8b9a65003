// The end of a relay, the same for every verb that has one: flows may finish, within bounds; and the counters as a message.
#pragma once

#include <chrono>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "relay/relay.h"

namespace limpid {

/// Lets flows finish until `patience` is over or a second signal comes; then ends the rest. Returns when none is left.
void drain(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience);

/// One message with every counter, and `more` behind them.
void log_counters(const Logger& log, std::string_view message, const Relay& relay, const std::vector<Field>& more = {});

}  // namespace limpid
