// Puts the calling process under a supervisor, so that the program which it becomes by execve(2), and all descendants
// of that, get non-local sockets.
#pragma once

#include "exec/supervisor.h"

namespace limpid {

/// For a process with one thread. When it returns without error, the filter is in force for the caller and all its
/// children to come, cannot be taken off again, and a supervisor serves it. The caller stays who it is: its process id,
/// children, signals and terminal. `report` is called in the supervisor.
[[nodiscard]] Status start_supervised(const ExecOptions& options, const Report& report);

}  // namespace limpid
