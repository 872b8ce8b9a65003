// Applies safe remedies, command by command, without a shell.
#pragma once

#include <vector>

#include "doctor/finding.h"
#include "limpid/error.h"

namespace limpid::doctor {

/// The commands of all safe remedies of warnings and failures, each once, in order.
[[nodiscard]] std::vector<Command> safe_commands(const Findings& findings);

/// Runs one: `sysctl -w` by itself, others as programs of the system.
[[nodiscard]] Status run_command(const Command& command);

}  // namespace limpid::doctor
