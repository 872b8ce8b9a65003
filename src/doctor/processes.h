// What a running `limpid run` holds: the user, capabilities and confinement of each of its processes, as the kernel tells them. Read for Facts.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace limpid::doctor {

/// Out of /proc/PID/status and, where said, /proc/PID/limits (proc(5)).
struct RunningProcess {
  pid_t pid = 0;
  std::string name;  ///< "limpid", or what a helper calls itself: "limpid-rules"
  uid_t user = 0;
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  std::uint64_t bounding = 0;
  bool no_new_privs = false;
  bool filtered = false;                          ///< seccomp mode 2
  bool stopped = false;                           ///< by SIGSTOP or a terminal (state T)
  std::optional<std::uint64_t> most_descriptors;  ///< its soft limit, out of limits; of the one that relays only

  [[nodiscard]] bool holds(unsigned capability) const noexcept { return (permitted >> capability & 1U) != 0; }
};

/// Empty where the text is not of that kind, and of a process that has ended and was not waited for: it does nothing any more.
[[nodiscard]] std::optional<RunningProcess> parse_status(pid_t pid, std::string_view status);

/// "Max open files" of /proc/PID/limits, the soft one. Empty: not told, or unlimited.
[[nodiscard]] std::optional<std::uint64_t> parse_descriptor_limit(std::string_view limits);

/// The process that relays for an instance first, then its children; empty: there is none, it is not `limpid run`, or /proc hides it.
[[nodiscard]] std::vector<RunningProcess> read_processes(const std::string& instance);

/// "cap_net_raw, cap_net_bind_service"; "none".
[[nodiscard]] std::string name_capabilities(std::uint64_t capabilities);

}  // namespace limpid::doctor
