// What `limpid exec` does to a program's socket before the program's own call goes on. Decides by what the socket is
// and whom the call names; asks net/lent_socket.h to do it.
#pragma once

#include <cstdint>
#include <optional>

#include "exec/filter.h"
#include "limpid/address.h"
#include "limpid/error.h"
#include "net/lent_socket.h"

namespace limpid {

struct ExecOptions {
  bool transparent = false;              ///< every IPv4 and IPv6 socket becomes transparent
  std::optional<IpAddress> source_ipv4;  ///< the foreign address from which to connect to IPv4 addresses
  std::optional<IpAddress> source_ipv6;
  bool datagrams_from_source = false;  ///< UDP too, not only TCP
  std::uint32_t mark = 0;              ///< SO_MARK for sockets that have none; 0: leave it

  /// The calls before which something is to be done.
  [[nodiscard]] NotifiedCalls notified_calls() const noexcept;
};

/// `remote` is whom the call wants to reach: nothing for bind and listen, for addresses of other families, and for what
/// could not be read. Addresses of this host's loopback are reached from its own address in any case.
[[nodiscard]] Status lend(const LentSocket& socket, const std::optional<SocketAddress>& remote,
                          const ExecOptions& options);

}  // namespace limpid
