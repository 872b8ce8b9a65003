// The flags of the relay itself, the same for every verb that relays: text as typed, and its translation into values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/dashboard_flags.h"
#include "cli/service_flags.h"
#include "cli/upstream_flags.h"
#include "limpid/error.h"
#include "service/settings.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed.
struct RelayFlags {
  std::string workers;
  std::string max_flows;
  std::string connect_timeout = "10s";
  std::string idle_timeout = "7440s";
  std::string half_closed_timeout = "7440s";
  std::string drain_timeout = "30s";
  std::string control;
  std::string metrics;
  DashboardFlags dashboard;
  std::string access_log_format;
  std::string access_log_rate;
  LogFlags log;
  UpstreamFlags upstreams;
};

/// `datagrams`: whether the verb relays them.
void add_relay_flags(CLI::App& verb, RelayFlags& flags, bool datagrams);
/// Checks every flag; the error names the flag, what was wrong in it, and what would be right.
[[nodiscard]] Result<RelaySettings> parse_relay_flags(const RelayFlags& flags);

/// 1 to `most`; an empty text stands for "not given" and yields 0.
[[nodiscard]] Result<std::uint64_t> parse_count(std::string_view flag, std::string_view text, std::uint64_t most);

}  // namespace limpid
