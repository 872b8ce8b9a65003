// What the service does under a supervisor's eyes: reload and drain, with a word to it before, meanwhile and afterwards.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/log.h"
#include "limpid/error.h"
#include "limpid/interception.h"
#include "relay/relay.h"
#include "service/notify_socket.h"
#include "service/reload.h"

namespace limpid {

/// The one that started us, or one that is not present(). An address that makes no sense is a warning.
[[nodiscard]] NotifySocket take_supervisor(const Logger& log);

/// "Intercepting TCP 80,443 and UDP 53".
[[nodiscard]] std::string describe_work(const Scope& scope);

/// Reloader::reload(), between two words, so that the supervisor neither takes it for a start nor counts us as down. A failure shows in the status.
[[nodiscard]] std::vector<Error> reload_supervised(Reloader& reloader, const NotifySocket& supervisor);

/// drain(), with a word now and then: it may take longer than the supervisor would wait.
void drain_supervised(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience,
                      const NotifySocket& supervisor);

}  // namespace limpid
