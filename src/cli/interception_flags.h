// The flags that say what to intercept, the same for `run` and `rules`: text as typed, and its translation into values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/program_flags.h"
#include "limpid/error.h"
#include "limpid/interception.h"
#include "policy/decision.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed. Repeatable flags also take comma-separated lists.
struct InterceptionFlags {
  std::string name = "limpid";
  std::vector<std::string> tcp;
  std::vector<std::string> udp;
  std::vector<std::string> from;  ///< interface names or CIDR blocks
  std::vector<std::string> to_net;
  std::vector<std::string> exclude;
  std::string source = "address";
  bool source_given = false;
  std::string fail = "open";
  std::string backend = "auto";
  std::string listen_port;  ///< empty: chosen
  std::string mark;
  std::string table;
  std::string priority;
  bool ipv4_only = false;
  bool ipv6_only = false;
  bool enable_forwarding = false;
  ProgramFlags programs;
};

/// What they mean.
struct InterceptionRequest {
  InterceptionOptions options;  ///< listener is port 0 when it is to be chosen
  SourceMode source = SourceMode::address;
  bool source_is_default = true;
  bool enable_forwarding = false;
};

/// What --source says.
[[nodiscard]] Result<SourceMode> parse_source(std::string_view typed);

void add_interception_flags(CLI::App& verb, InterceptionFlags& flags);
/// Checks every flag; the error names the flag, what was wrong in it, and what would be right.
[[nodiscard]] Result<InterceptionRequest> parse_interception_flags(const InterceptionFlags& flags);

}  // namespace limpid
