// LegAddresses: the two ends of one leg of a flow, as its packets have them: what somebody who looks for those packets needs to know.
#pragma once

#include <optional>

#include "limpid/address.h"
#include "limpid/transparent.h"

namespace limpid {

/// `local` is our end: of the client leg, the original destination. Port 0: not one only (a UDP session may have one socket for all whom its client writes to).
struct LegAddresses {
  SocketAddress local;  ///< an unspecified address: whichever this host has towards the other end
  SocketAddress remote;
};

struct FlowLegs {
  LegAddresses client;
  std::optional<LegAddresses> target{};  ///< empty: there is none yet
};

/// Of a TCP socket. `dialled`: where it is connecting to, for as long as it has no peer (getpeername(2)). Empty where there is nothing to tell.
[[nodiscard]] inline std::optional<LegAddresses> addresses_of_leg(int fd, const SocketAddress& dialled = {}) {
  const auto local = original_destination(fd);  // getsockname(2)
  if (!local || local->port.value == 0) return std::nullopt;
  const SocketAddress remote = peer_address(fd).value_or(dialled);
  if (remote.port.value == 0) return std::nullopt;
  return LegAddresses{.local = *local, .remote = remote};
}

}  // namespace limpid
