// Host names to addresses, for targets that users write. Blocks while the resolver works: never called by a worker.
#pragma once

#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// "192.0.2.1:80", "[2001:db8::1]:80" or "name:80" (its first address as getaddrinfo orders them).
[[nodiscard]] Result<SocketAddress> resolve_target(std::string_view text);

}  // namespace limpid
