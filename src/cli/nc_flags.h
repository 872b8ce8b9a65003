// The flags of `limpid nc`: text as typed, and its translation into values. Looks at nothing but the flags.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "limpid/port_set.h"
#include "netcat/options.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed. What is empty but given is a mistake: it is what a script's unset variable leaves.
struct NcFlags {
  std::optional<std::string> first;  ///< the operands, in order: [HOST] PORT, then the arguments of -e
  std::optional<std::string> second;
  std::vector<std::string> rest;
  std::optional<std::string> source;
  std::optional<std::string> source_port;
  std::optional<std::string> idle;
  std::optional<std::string> linger;
  std::optional<std::string> program;
  std::optional<std::string> command;
  std::optional<std::string> tcp;
  std::optional<std::string> udp;
  std::string name = "nc";
  bool listen = false;
  bool keep = false;
  bool datagrams = false;
  bool ipv4 = false;
  bool ipv6 = false;
  bool scan = false;
  bool finish = false;
  bool numeric = false;
  bool verbose = false;
  bool transparent = false;
  bool setup = false;
  bool name_given = false;
};

/// What --setup is to install.
struct NcSetup {
  std::string name;
  PortSet tcp;  ///< forwarded connections to these ports go to the listener
  PortSet udp;  ///< forwarded datagrams likewise
  /// With neither: only what is addressed to NetcatOptions::source is diverted.
  [[nodiscard]] bool intercepts() const { return !tcp.empty() || !udp.empty(); }
};

struct NcRequest {
  NetcatOptions netcat;  ///< without `narrate` and `stop_fd`
  bool listen = false;
  bool scan = false;
  bool verbose = false;
  std::optional<NcSetup> setup;
};

void add_nc_flags(CLI::App& verb, NcFlags& flags);
/// Checks every flag; the error names the flag, what was wrong in it, and what would be right.
[[nodiscard]] Result<NcRequest> parse_nc_flags(const NcFlags& flags);

}  // namespace limpid
