// Serves the notifications of one supervised program and all its descendants, until the last of them has ended.
// Started by launch.cc in a process of its own, which the filter does not concern.
#pragma once

#include <functional>

#include "exec/caller.h"
#include "exec/lending.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Tells the program's user what went wrong while it runs.
using Report = std::function<void(const Error&)>;

/// `program` is the process that becomes the program; while it lives, `report` is called, each message once.
/// Returns when no process uses the filter of `listener` any more.
void serve(const UniqueFd& listener, const Caller& program, const ExecOptions& options, const Report& report);

}  // namespace limpid
