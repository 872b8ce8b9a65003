// Host names to addresses, for targets that users write. Blocks while the resolver works: never called by a worker.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// "192.0.2.1:80", "[2001:db8::1]:80", "[fe80::1%eth0]:80" or "name:80" (its first address as getaddrinfo orders them).
[[nodiscard]] Result<SocketAddress> resolve_target(std::string_view text);

/// "2001:db8::1" of "[2001:db8::1]", which is how addresses stand in URLs and before ports. Anything else stays as it is.
[[nodiscard]] std::string_view without_brackets(std::string_view host) noexcept;

/// Every address of a host, as getaddrinfo orders them, with port 0; never empty. An address may carry a scope
/// ("fe80::1%eth0"), and an IPv6 address brackets. With `numeric`, names are an error.
[[nodiscard]] Result<std::vector<SocketAddress>> resolve_host(std::string_view host, std::optional<Family> family,
                                                              bool numeric);

/// The address that a host is written as, with port 0; empty for a name. Asks nobody.
[[nodiscard]] std::optional<SocketAddress> literal_address(std::string_view host);

}  // namespace limpid
