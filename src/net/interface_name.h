// What may be an interface name when it comes from a user and goes to nftables or netlink.
#pragma once

#include <string>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

/// Accepts 1…15 characters of [A-Za-z0-9_.:@-] that do not start with '-' and are not "." or ".."; a trailing '*' is nftables'
/// wildcard and is refused. The kernel allows more, but such names cannot be told from syntax safely.
[[nodiscard]] Result<std::string> validate_interface_name(std::string_view text);

}  // namespace limpid
