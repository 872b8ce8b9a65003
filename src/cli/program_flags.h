// The flags that say which of this host's own programs are meant: text as typed, and its translation into a scope.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "limpid/interception.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed. Users and groups are names, numbers or ranges of numbers; all are repeatable.
struct ProgramFlags {
  bool local = false;
  bool local_only = false;
  std::vector<std::string> uid;
  std::vector<std::string> gid;
  std::vector<std::string> cgroup;
  std::vector<std::string> exclude_uid;
  std::vector<std::string> exclude_gid;
  std::vector<std::string> exclude_cgroup;
};

/// By getpwnam(3) and getgrnam(3). Before any thread starts.
[[nodiscard]] std::optional<std::uint32_t> user_of_name(const std::string& name);
[[nodiscard]] std::optional<std::uint32_t> group_of_name(const std::string& name);

void add_program_flags(CLI::App& verb, ProgramFlags& flags);
/// Sets `forwarded` and `local` of a scope. Looks up the names of users and groups, but not whether cgroups exist.
[[nodiscard]] Status parse_program_flags(const ProgramFlags& flags, Scope& scope);

}  // namespace limpid
