// What a process that is forked for one purpose does first: it keeps a channel to its parent, and nothing else.
#pragma once

#include <sys/types.h>

#include <optional>

#include "base/confinement.h"

namespace limpid {

/// The channel's descriptor in the child.
inline constexpr int kChildChannel = 3;

/// In the child: becomes `user`, closes everything but `channel`, takes `name` (15 bytes), and ends with `parent`. False: the child must not go on.
[[nodiscard]] bool become_child(int channel, pid_t parent, const std::optional<UnprivilegedUser>& user,
                                const char* name);

}  // namespace limpid
