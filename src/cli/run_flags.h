// The flags of `limpid run`, as typed and as ServiceOptions: for the verb itself, and for configuration files, whose settings are these flags.
#pragma once

#include <memory>
#include <string>

#include "cli/interception_flags.h"
#include "cli/relay_flags.h"
#include "limpid/error.h"
#include "service/service.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed.
struct RunFlags {
  InterceptionFlags interception;
  RelayFlags relay;
  std::string target = "original";
  std::string sandbox = "on";
  std::string confirm;
  std::string repair = "on";
  std::string cut_through = "off";
  bool cut_through_netfilter = false;
  std::string udp_mapping = "endpoint-independent";
  std::string udp_filtering = "endpoint-independent";
  std::string udp_timeout = "300s";
  std::string udp_unanswered_timeout = "30s";
  std::string udp_dns_timeout = "10s";
  std::string max_udp_sessions;
  std::string max_udp_sessions_per_source;
  std::string sniff_timeout = "300ms";
  std::string sniff_bytes;
  bool dns_hint = false;
  std::string udp_flag;  ///< which of those was given; empty: none
};

/// All but what only a person at a terminal says: --dry-run, --config.
void add_run_flags(CLI::App& verb, const std::shared_ptr<RunFlags>& flags);
/// Checks every flag; the error names the flag, what was wrong in it, and what would be right.
[[nodiscard]] Result<ServiceOptions> parse_run_flags(const RunFlags& flags);

}  // namespace limpid
