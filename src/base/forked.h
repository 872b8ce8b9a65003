// Runs a function in a forked child and brings its text back: for what must not happen to this process, such as
// entering a namespace for good.
#pragma once

#include <functional>
#include <string>

#include "limpid/error.h"

namespace limpid {

/// What `function` returned in the child, or its error, whose kind is kept. The child ends without running any of the
/// parent's destructors, and is killed when the parent ends. The caller must be single-threaded.
[[nodiscard]] Result<std::string> run_forked(const std::function<Result<std::string>()>& function);

}  // namespace limpid
