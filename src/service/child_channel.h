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

/// In the parent, which has closed its end: kills the child and waits for it. A child of another user cannot be killed by who has no privileges any more: that
/// one is left to its end, which is the parent's (become_child()).
void end_child(pid_t pid) noexcept;

}  // namespace limpid
