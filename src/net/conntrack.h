// Single entries of the kernel's connection tracking: taken out, or asked whether they translate addresses.
#pragma once

#include <utility>

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/endpoint.h"
#include "net/netlink_socket.h"

namespace limpid {

/// Deletes the entry that began with a packet from `source` to `destination`. That there is none is no error, and neither is a kernel
/// without connection tracking. Needs CAP_NET_ADMIN.
[[nodiscard]] Status forget_connection(Transport transport, const SocketAddress& source,
                                       const SocketAddress& destination);

/// Whether this kernel tracks connections at all.
[[nodiscard]] bool tracks_connections() noexcept;

/// Connections as connection tracking knows them, for those who have to do with many. One thread at a time; belongs to the network
/// namespace in which it was opened. Needs CAP_NET_ADMIN.
class TrackedConnections {
 public:
  [[nodiscard]] static Result<TrackedConnections> open();

  /// Whether packets of a connection (or UDP exchange) have other addresses or ports on the wire than its socket says (masquerade, DNAT, …): its entry
  /// in the default zone is not one tuple and its reverse. A connection that is not tracked is not translated, not even where an older one with the same
  /// addresses and ports was, and its entry is still there. The error: nobody can tell.
  [[nodiscard]] Result<bool> is_translated(Transport transport, const SocketAddress& local, const SocketAddress& peer);
  /// Deletes the entry of a TCP connection, if there is one: for a connection whose packets connection tracking sees no more. It would keep it for days.
  void forget(const SocketAddress& local, const SocketAddress& peer);
  /// TCP, for a connection whose packets are forwarded from now on, with octets in between that were not seen: established, and not judged by its windows. An
  /// entry is made where there is none.
  void go_on(const SocketAddress& client, const SocketAddress& server);

 private:
  explicit TrackedConnections(NetlinkSocket socket) noexcept : socket_(std::move(socket)) {}
  NetlinkSocket socket_;
};

}  // namespace limpid
