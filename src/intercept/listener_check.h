// Whether another's sockets can take what a plan hands them: judged from what the kernel tells of them, before anything is handed over.
// The callers word the verdict.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/interception.h"
#include "net/socket_diag.h"

namespace limpid {

/// What awaits one family's connections, or datagrams, on the listener's port.
enum class Readiness : std::uint8_t {
  absent,  ///< no socket of this family is there
  elsewhere,  ///< one is, bound to another address than the rules hand packets to, or to an interface where they do not arrive
  opaque,  ///< it is bound rightly, and not transparent: the kernel would not give it what is addressed to somebody else
  ready,   ///< transparent, or of a kernel that does not tell
};

struct ListenerState {
  Transport transport = Transport::tcp;
  Family family = Family::ipv4;
  Readiness readiness = Readiness::absent;
  std::optional<SocketAddress> bound;  ///< where, unless absent
  std::string device;                  ///< and to which interface; empty: to none
  bool known = true;                   ///< with `ready`: the kernel says that it is transparent, rather than nothing
};

/// One for each transport and family in `scope`, TCP and IPv4 first. `sockets` are those on the listener's port, of both transports.
[[nodiscard]] std::vector<ListenerState> judge_listeners(const Scope& scope, std::span<const ServerSocket> sockets);

/// The same, of this network namespace's sockets as they are now.
[[nodiscard]] Result<std::vector<ListenerState>> find_listeners(const Scope& scope, Port port);

}  // namespace limpid
