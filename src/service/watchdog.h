// Watchdog: the beat that a supervisor waits for (systemd's WatchdogSec=), on a thread of its own. Each beat is paid for: every worker has come round
// in its loop once more since the last one. As long as one is stuck there is none, and the supervisor restarts us.
#pragma once

#include <chrono>
#include <thread>

#include "relay/relay.h"
#include "service/notify_socket.h"

namespace limpid {

class Watchdog {
 public:
  /// Does nothing where nobody waits for a beat. Both outlive it. Signals must be blocked: the thread inherits the mask.
  Watchdog(Relay& relay, const NotifySocket& supervisor);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  Watchdog(Watchdog&&) = delete;
  Watchdog& operator=(Watchdog&&) = delete;
  ~Watchdog() = default;  ///< ends the thread, whatever the workers do

 private:
  std::jthread thread_;
};

}  // namespace limpid
