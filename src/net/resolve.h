// Host names to addresses, for targets that users write. Blocks while the resolver works: never called by a worker.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// "192.0.2.1:80", "[2001:db8::1]:80" or "name:80" (its first address as getaddrinfo orders them).
[[nodiscard]] Result<SocketAddress> resolve_target(std::string_view text);

/// Every address of a host, as getaddrinfo orders them, with port 0; never empty. An address may carry a scope
/// ("fe80::1%eth0"). With `numeric`, names are an error.
[[nodiscard]] Result<std::vector<SocketAddress>> resolve_host(std::string_view host, std::optional<Family> family,
                                                              bool numeric);

}  // namespace limpid
