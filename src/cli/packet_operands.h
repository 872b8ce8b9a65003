// The operands that say which packet, or which packets, are meant: `limpid explain` and `limpid trace` write them alike.
#pragma once

#include <optional>
#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/endpoint.h"

namespace limpid {

/// "tcp" or "udp".
[[nodiscard]] Result<Transport> parse_transport(std::string_view typed);

/// What "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80" and, in a trace, "any" and "any:80" leave open is empty.
struct EndpointPattern {
  std::optional<IpAddress> address;
  std::optional<Port> port;
};
/// `name`: of the operand, for the error. `any_allowed`: an address may be "any".
[[nodiscard]] Result<EndpointPattern> parse_endpoint(std::string_view name, std::string_view typed, bool any_allowed);

/// An error unless both are of one family, as far as they have one.
[[nodiscard]] Status check_one_family(std::string_view source, const EndpointPattern& from, const EndpointPattern& to);

}  // namespace limpid
