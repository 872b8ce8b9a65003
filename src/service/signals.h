// The signals that a foreground service lives by: taken before the first thread starts, then read one by one.
#pragma once

#include <chrono>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// A descriptor that becomes readable with SIGTERM, SIGINT, SIGUSR1 and, unless nohup(1) asked us to live on, SIGHUP. They are
/// blocked from now on, for all threads to come; SIGPIPE and the stop signals are ignored.
/// `and_upgrade`: SIGUSR2 as well.
[[nodiscard]] Result<UniqueFd> take_signals(bool and_upgrade = false);

/// The next signal within `patience` (negative: for ever), 0 if none came.
[[nodiscard]] int next_signal(int signal_fd, std::chrono::milliseconds patience);

}  // namespace limpid
