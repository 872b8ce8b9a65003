// Tries something in a network namespace of its own, where it can disturb nobody.
#pragma once

#include <functional>
#include <string>

#include "limpid/error.h"

namespace limpid {

/// Runs `work` in a forked child in a new, empty network namespace, and returns what it returned. Whoever is not privileged gets a user
/// namespace with it, and `work` is told so.
[[nodiscard]] Result<std::string> try_in_new_namespace(
    const std::function<Result<std::string>(bool in_user_namespace)>& work);

}  // namespace limpid
