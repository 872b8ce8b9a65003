// The listening side: sockets first, then conversations, so that whoever sets up interception can do so in between.
#pragma once

#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "netcat/options.h"

namespace limpid {

struct NetcatListeners {
  Port port;  ///< the same for all
  std::vector<UniqueFd> sockets;
};

/// One socket on options.source; without it, one for each wanted family on any address, or `on_loopback`.
[[nodiscard]] Result<NetcatListeners> open_netcat_listeners(const NetcatOptions& options, bool on_loopback);

/// Holds the conversations of those who come. With a program there may be many at one time, otherwise one after the
/// other. Without keep_listening the first one is the last.
[[nodiscard]] Result<Ending> serve(const NetcatOptions& options, NetcatListeners listeners);

}  // namespace limpid
