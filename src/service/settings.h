// What every verb that relays lets its users choose, and what is chosen if they do not.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "limpid/prefix.h"
#include "relay/worker.h"
#include "upstream/group.h"

namespace limpid {

struct RelaySettings {
  unsigned workers = 0;       ///< 0: one for each CPU that this process may use
  std::size_t max_flows = 0;  ///< 0: as many as file descriptors allow
  RelayTimeouts timeouts;
  std::chrono::milliseconds drain_timeout{30'000};
  std::chrono::seconds keepalive_idle{300};
  bool access_log = true;
  std::optional<LogFormat> access_log_format{};        ///< empty: that of messages
  bool access_log_journal = false;                     ///< entries of systemd-journald instead of lines
  std::uint64_t access_log_rate = 0;                   ///< lines a second, at most; 0: all
  std::vector<UpstreamGroupOptions> upstreams{};       ///< groups that flows may go through
  std::string upstream{};                              ///< the one that all flows go through; empty: none
  std::chrono::milliseconds upstream_resolve{30'000};  ///< how often their names are looked up again; 0: never
  std::vector<Prefix> introducers{};                   ///< networks whose connections begin with a PROXY header
  std::string control{};                   ///< path of the control socket; empty: the default one, "none": none
  std::optional<SocketAddress> metrics{};  ///< where /metrics is served over TCP
  Logger::Options log;
};

}  // namespace limpid
