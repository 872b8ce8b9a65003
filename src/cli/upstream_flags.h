// The flags that say through whom flows go, and who may introduce clients: the same for every verb that relays.
#pragma once

#include <string>
#include <vector>

#include "limpid/error.h"
#include "service/settings.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed.
struct UpstreamFlags {
  std::vector<std::string> upstreams;
  std::string choice = "order";
  std::string down = "reject";
  std::string timeout = "10s";
  std::string check = "10s,2,3";
  std::string check_target;
  std::string resolve = "30s";
  std::string datagrams = "upstream";
  std::vector<std::string> introducers;
  std::string given;  ///< which of the flags that mean nothing without --upstream was given; empty: none
};

/// `datagrams`: whether the verb relays them.
void add_upstream_flags(CLI::App& verb, UpstreamFlags& flags, bool datagrams);
/// Fills in what concerns upstreams. Looks names up and reads files.
[[nodiscard]] Status parse_upstream_flags(const UpstreamFlags& flags, RelaySettings& settings);

}  // namespace limpid
