// The calling side: one conversation with a peer, or a scan of its ports.
#pragma once

#include "limpid/error.h"
#include "netcat/options.h"

namespace limpid {

/// Tries each of the host's addresses until one answers, then talks to it until both sides have ended.
[[nodiscard]] Result<Ending> call(const NetcatOptions& options);

/// Tries every port and says what it found, one line each: "192.0.2.1:80 open". Fails when none is open.
[[nodiscard]] Result<Ending> scan(const NetcatOptions& options);

}  // namespace limpid
