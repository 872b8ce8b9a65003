// The sockets that wait for somebody, as the kernel's own sock_diag tells them: TCP listeners and UDP sockets of this network
// namespace, and what they are bound with. Needs no privileges. Whose they are, by name, is port_owner.h's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/endpoint.h"

namespace limpid {

/// A listening TCP socket, or a UDP socket that is bound to a port.
struct ServerSocket {
  Transport transport = Transport::tcp;
  /// As bound, in the socket's own family: one of IPv6 that is bound to ::ffff:127.0.0.1 says so.
  SocketAddress local;
  bool connected = false;  ///< of UDP: it hears its peer only
  bool ipv6_only = false;  ///< of IPv6: one that is not, and bound to ::, is sent IPv4 as well
  std::string device;      ///< bound to this interface (SO_BINDTODEVICE): hears what arrives there only; empty: to none
  /// IP_TRANSPARENT or IPV6_TRANSPARENT, which are one bit. Empty where the kernel does not tell (sock_diag before 5.10).
  std::optional<bool> transparent;
  std::optional<std::uint32_t> mark;  ///< SO_MARK; told to those with CAP_NET_ADMIN only
  std::uint32_t user = 0;             ///< who opened it (or fchown'ed it), which need not be who uses it
  std::uint32_t inode = 0;            ///< "socket:[INODE]" in /proc/PID/fd
  bool operator==(const ServerSocket&) const = default;

  /// Whether packets to an address of `family` that are handed to "127.0.0.1" or "::1" find it: it is bound to that very address, or to
  /// all of them.
  [[nodiscard]] bool hears_loopback(Family family) const noexcept;
};

/// Those on `port`, of both families; without a port all of them. A kernel without sock_diag for this transport is asked through /proc,
/// which tells less: see proc_sockets.h.
[[nodiscard]] Result<std::vector<ServerSocket>> server_sockets(Transport transport, std::optional<Port> port);

}  // namespace limpid
