// What every verb with a relay does around it: access log and counters, and its end, when flows may finish, within bounds.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "relay/relay.h"
#include "service/settings.h"

namespace limpid {

/// Lets flows finish until `patience` is over or a second signal comes; then ends the rest. Returns when none is left. `still_draining` is called again
/// and again meanwhile, many times a second.
void drain(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience,
           const std::function<void()>& still_draining = {});

/// One message with every counter, and `more` behind them.
void log_counters(const Logger& log, std::string_view message, const Relay& relay, const std::vector<Field>& more = {});

/// Runs `serve` with the access log that the settings ask for beside it; then logs the counters, and how many lines were lost and why.
void serve_with_access_log(Relay& relay, const RelaySettings& settings, const Logger& log,
                           const std::function<void()>& serve);

}  // namespace limpid
