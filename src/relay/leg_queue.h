// What the kernel still holds for a leg, in either direction. Asked by the worker at the beginning and the end of a flow, never in
// between.
#pragma once

#include "relay/pump.h"

namespace limpid {

/// What a leg's peer has not acknowledged yet; a FIN counts as one byte. 0 for a leg that is closed.
[[nodiscard]] int unacknowledged_bytes(const Leg& leg) noexcept;

/// Whether the peer has said something that nobody has read.
[[nodiscard]] bool has_unread_bytes(const Leg& leg) noexcept;

}  // namespace limpid
