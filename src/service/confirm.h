// The safety net for people on a remote shell: whoever cannot type any more after the change did not want it.
#pragma once

#include <chrono>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// The controlling terminal. Opened before anything is changed, so that a missing one changes nothing.
[[nodiscard]] Result<UniqueFd> open_terminal();

enum class Confirmation : std::uint8_t { confirmed, timed_out, interrupted };

/// Asks on `terminal` and waits for a line that says "yes". `signal_fd` (a signalfd) becoming readable interrupts; it
/// is not read.
[[nodiscard]] Confirmation await_confirmation(int terminal, int signal_fd, std::chrono::seconds patience);

}  // namespace limpid
