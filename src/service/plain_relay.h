// The plain relay: `limpid relay`. Listens like any other program, dials fixed targets, touches no firewall.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "policy/decision.h"
#include "service/settings.h"
#include "service/target_resolution.h"

namespace limpid {

struct PlainRelayOptions : RelaySettings {
  Port port;
  std::vector<SocketAddress> listen_addresses;  ///< port ignored. Empty: all of the families below
  bool ipv4 = true;
  bool ipv6 = true;
  std::vector<TargetName> targets;
  TargetOrder order = TargetOrder::as_given;
  std::chrono::milliseconds resolve_interval{30'000};  ///< 0: names are resolved once
  bool transparent = false;                            ///< listeners that `tproxy` may hand connections to
  SourceMode source = SourceMode::none;
  std::uint32_t mark = 0;  ///< SO_MARK of all sockets, 0: none
  bool fast_open = false;
  bool once = false;
  std::optional<std::string> root_directory;  ///< chroot, and no privileges beyond what is needed
};

/// Runs until a signal as run_service() does; with `once` until its one connection is over, whose end is the outcome. Must be called
/// from a program's only thread: it blocks signals for all that follow, and forks.
[[nodiscard]] Status run_plain_relay(const PlainRelayOptions& options);

}  // namespace limpid
