// The demonstration: real servers, real clients, Limpid on the router between them, and what each of them saw.
#pragma once

#include <functional>

#include "limpid/error.h"

namespace limpid {

/// Builds a lab, shows everything on stdout and returns the exit status: 0 when all was as promised. `report` prints an
/// error and returns the exit status for it; it is called in the processes of the lab. Runs this very program as
/// `limpid run`. The calling process must be single-threaded.
[[nodiscard]] Result<int> run_demo(const std::function<int(const Error&)>& report);

}  // namespace limpid
