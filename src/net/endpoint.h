// TCP and UDP sockets of either kind, local or foreign, for programs whose users name the addresses: listeners,
// callers, and UDP answers that leave from the address that was dialled. Every socket is non-blocking and
// close-on-exec.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

enum class Transport : std::uint8_t { tcp, udp };

/// "TCP" or "UDP".
[[nodiscard]] std::string_view to_string(Transport transport) noexcept;

enum class Transparency : std::uint8_t {
  when_foreign,  ///< IP_TRANSPARENT only for an address that this host does not have: needs no privileges otherwise
  always,
};

/// True for an address that no interface of this network namespace has, and that is neither loopback, unspecified nor
/// multicast.
[[nodiscard]] Result<bool> is_foreign(const IpAddress& address);

/// The address of this host that the kernel would choose as source towards `to`. Empty where there is no way.
[[nodiscard]] std::optional<IpAddress> source_towards(const SocketAddress& to, std::uint32_t mark) noexcept;

/// A listening TCP socket, or a UDP socket that tells DatagramBatch the original destinations. IPv6 sockets
/// are IPv6 only. A foreign address without CAP_NET_ADMIN is an error of kind `unsupported`.
[[nodiscard]] Result<UniqueFd> open_listener(Transport transport, const SocketAddress& local,
                                             Transparency transparency);

/// A socket that calls `target`, from `local` if given (port 0: the kernel chooses). TCP: the connection has only been
/// started, see connection_outcome(). UDP: connected, so that only `target` is heard.
[[nodiscard]] Result<UniqueFd> open_caller(Transport transport, const std::optional<SocketAddress>& local,
                                           const SocketAddress& target, Transparency transparency);

/// Once a caller's socket is writable: 0, or the errno why there is no connection. A connection that was made and has
/// been reset since, with bytes to read in it, is one.
[[nodiscard]] int connection_outcome(int fd) noexcept;

/// The socket's pending error, which this consumes; 0: none.
[[nodiscard]] int take_error(int fd) noexcept;

/// Sends one datagram from `from`, which was dialled, to `to`. From the listener's own port it leaves by the listener, which
/// takes no privileges; otherwise by a raw socket: no socket bound to `from` could take datagrams away from the listener.
[[nodiscard]] Status answer_datagram(int listener, const SocketAddress& from, const SocketAddress& to,
                                     std::span<const std::byte> payload);

}  // namespace limpid
