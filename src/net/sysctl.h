// Reads and writes /proc/sys, by the dotted key that users know. Keys come from our own code, never from a user.
#pragma once

#include <string>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

/// "net.ipv4.ip_forward" → its value without the newline. Interface names with dots are written with a slash instead, as
/// sysctl(8) has it: "net.ipv4.conf.eth0/100.rp_filter".
[[nodiscard]] Result<std::string> read_sysctl(std::string_view key);
[[nodiscard]] Status write_sysctl(std::string_view key, std::string_view value);

}  // namespace limpid
