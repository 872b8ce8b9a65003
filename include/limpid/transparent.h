// Transparent sockets: listen for connections that were addressed to somebody else, and connect as somebody else.
// Every socket made here is non-blocking and close-on-exec. IP_TRANSPARENT needs CAP_NET_ADMIN (or CAP_NET_RAW), a mark
// needs CAP_NET_ADMIN; without them the error is of kind `unsupported` and says so.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

struct ListenOptions {
  int backlog = 65535;                     ///< accept queue, cut by the kernel to net.core.somaxconn
  bool reuse_port = false;                 ///< SO_REUSEPORT: several listeners share one port, one for each worker
  std::uint32_t mark = 0;                  ///< SO_MARK, inherited by accepted sockets; 0: none
  std::chrono::seconds keepalive_idle{0};  ///< SO_KEEPALIVE after this much silence, inherited; 0: off
  bool fast_open = false;                  ///< TCP_FASTOPEN; works where bit 2 of net.ipv4.tcp_fastopen is set
  std::uint32_t smallest_mtu =
      0;  ///< announces segments that fit into it (TCP_MAXSEG), inherited; 0: what the way out takes
};

/// A listening TCP socket with IP_TRANSPARENT (IPv6: IPV6_TRANSPARENT and IPV6_V6ONLY) and TCP_NODELAY, which accepted
/// sockets inherit. Port 0 lets the kernel choose one. Bind it to a loopback address and hand it connections with nftables'
/// `tproxy to`: then nobody can reach it across the network directly.
[[nodiscard]] Result<UniqueFd> listen_transparent(const SocketAddress& local, const ListenOptions& options = {});

/// Binds a socket of yours, of any type, to an address that this host need not have: sets IP_TRANSPARENT (IPV6_TRANSPARENT),
/// then bind(2). Port 0: the kernel picks one when the socket connects, listens or sends (IP_BIND_ADDRESS_NO_PORT). Only to
/// a routed address; what is sent to it arrives where an Interception, or a divert rule of yours, delivers it.
[[nodiscard]] Status bind_transparent(int fd, const SocketAddress& local);

struct ConnectOptions {
  /// The foreign source address. Port 0: the kernel picks one at connect (IP_BIND_ADDRESS_NO_PORT), so that only the whole
  /// 4-tuple must be unique. Another port is bound as it is. Empty: the host's own address.
  std::optional<SocketAddress> source;
  std::uint32_t mark = 0;                  ///< SO_MARK, 0: none
  std::chrono::seconds keepalive_idle{0};  ///< as in ListenOptions
  /// TCP_FASTOPEN_CONNECT, where bit 1 of net.ipv4.tcp_fastopen is set: where the kernel has a cookie of this target, it sends
  /// its SYN only with the first send(2), even of no bytes, and what fits of them in it.
  bool fast_open = false;
  std::uint32_t smallest_mtu = 0;  ///< as in ListenOptions
  std::string_view interface{};    ///< leaves through it, whatever routes say (SO_BINDTODEVICE); empty: as routes say
};

/// Starts a TCP connection to `target` and returns at once: writability tells when it is decided, SO_ERROR how. The error code
/// is EADDRINUSE when the wanted source address and port cannot be bound, EADDRNOTAVAIL when its 4-tuple is taken.
[[nodiscard]] Result<UniqueFd> connect_transparent(const SocketAddress& target, const ConnectOptions& options = {});

/// The address that the client dialled. For an accepted transparent socket it is the socket's local address (getsockname);
/// SO_ORIGINAL_DST belongs to NAT and returns nonsense here.
[[nodiscard]] Result<SocketAddress> original_destination(int accepted);

/// Who is at the other end (getpeername).
[[nodiscard]] Result<SocketAddress> peer_address(int connected);

}  // namespace limpid
