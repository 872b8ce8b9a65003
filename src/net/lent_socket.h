// Sockets that another program opened and lent to us (pidfd_getfd(2)): what they are, and the few options that
// `limpid exec` gives them. Nothing here changes what the program set itself: its flags, its blocking mode, its
// address.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

enum class SocketKind : std::uint8_t { stream, datagram, other };

/// An IPv4 or IPv6 socket. `stream` is TCP and its like (MPTCP, SCTP), `datagram` is UDP and UDP-Lite; raw and ping
/// sockets are `other`.
struct LentSocket {
  int fd = -1;  ///< borrowed
  Family family = Family::ipv4;
  SocketKind kind = SocketKind::other;
};

/// Nothing for what is no socket, or one of another address family.
[[nodiscard]] std::optional<LentSocket> inspect_lent_socket(int fd) noexcept;

/// IP_TRANSPARENT, IPV6_TRANSPARENT for an IPv6 socket. Protocols that do not know it are left as they are: then the
/// kernel decides what the program's call may do, as it always did.
[[nodiscard]] Status make_transparent(const LentSocket& socket);

/// SO_MARK, unless the program has set a mark itself.
[[nodiscard]] Status mark_unless_marked(const LentSocket& socket, std::uint32_t mark);

/// True while the socket has neither an address nor a port.
[[nodiscard]] bool is_unbound(const LentSocket& socket) noexcept;

/// Binds to a foreign address, which makes the socket transparent first. The port is chosen when it connects
/// (IP_BIND_ADDRESS_NO_PORT). An IPv4 address on an IPv6 socket is bound in its mapped form.
[[nodiscard]] Status bind_foreign(const LentSocket& socket, const IpAddress& source);

/// Out of a program's struct sockaddr of any length. Nothing for other families, or when it is too short.
[[nodiscard]] std::optional<SocketAddress> read_native_address(std::span<const std::byte> native) noexcept;

/// Whether this process may make sockets transparent in its network namespace, and set marks if `mark` is not 0: found
/// by trying it. The error says what is missing.
[[nodiscard]] Status check_may_lend(std::uint32_t mark);

}  // namespace limpid
