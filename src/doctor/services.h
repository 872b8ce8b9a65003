// Programs of the system that change rules, routes or settings behind everybody's back: whether they run in this network
// namespace, and how they are configured. Reads /proc and configuration files.
#pragma once

#include <string_view>

namespace limpid::doctor {

/// Whether a process of that name (comm, at most 15 characters) runs in this thread's network namespace.
[[nodiscard]] bool runs_here(std::string_view comm);

/// Whether systemd-networkd is told ManageForeignRoutingPolicyRules=no, in networkd.conf or a drop-in.
[[nodiscard]] bool networkd_keeps_foreign_rules();

/// The last value of a key in a section of an ini-like text ("[Network]", "Key=value"); empty where it is not given.
[[nodiscard]] std::string_view find_setting(std::string_view text, std::string_view section, std::string_view key);

}  // namespace limpid::doctor
