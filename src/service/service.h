// The service: `limpid run`. The only place where relay and interception meet: listeners first, then the plan; and
// backwards at the end.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>

#include "base/log.h"
#include "limpid/error.h"
#include "limpid/interception.h"
#include "policy/decision.h"
#include "relay/worker.h"

namespace limpid {

struct ServiceOptions {
  InterceptionOptions interception;  ///< listener port 0: chosen
  bool enable_forwarding = false;    ///< switch net.ipv4.ip_forward and its IPv6 twin on, and back at the end
  SourceMode source = SourceMode::address;
  bool source_is_default = false;  ///< nobody asked for `source`: datagrams keep the client's port where that is safe
  std::optional<SocketAddress> fixed_target;
  unsigned workers = 0;  ///< 0: one for each CPU that this process may use
  RelayTimeouts timeouts;
  std::chrono::milliseconds drain_timeout{30'000};
  std::chrono::seconds keepalive_idle{300};
  UdpOptions udp;             ///< policy and mark are filled in
  std::size_t max_flows = 0;  ///< 0: as many as file descriptors allow
  std::optional<std::chrono::seconds> confirm;
  bool access_log = true;
  Logger::Options log;
};

/// Runs until SIGTERM, SIGINT or SIGHUP, drains and removes what it installed; a second signal ends the drain at once.
/// SIGUSR1 logs the counters. Must be called from a program's only thread: it blocks signals for all that follow.
[[nodiscard]] Status run_service(const ServiceOptions& options);

/// What run_service() would install, as commands (`--dry-run`). Changes nothing and needs no privileges.
[[nodiscard]] Result<std::string> describe_service(const ServiceOptions& options);

}  // namespace limpid
