// What every verb that relays lets its users choose, and what is chosen if they do not.
#pragma once

#include <chrono>
#include <cstddef>

#include "base/log.h"
#include "relay/worker.h"

namespace limpid {

struct RelaySettings {
  unsigned workers = 0;       ///< 0: one for each CPU that this process may use
  std::size_t max_flows = 0;  ///< 0: as many as file descriptors allow
  RelayTimeouts timeouts;
  std::chrono::milliseconds drain_timeout{30'000};
  std::chrono::seconds keepalive_idle{300};
  bool access_log = true;
  Logger::Options log;
};

}  // namespace limpid
