// Transparent TCP sockets, both families. One listener per family: a dual-stack one would need both option sets and
// shows IPv4 clients as mapped addresses.
#include "limpid/transparent.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "net/tcp_socket.h"

namespace limpid {
namespace {

constexpr std::string_view kNeedsNetAdmin = "needs CAP_NET_ADMIN: run it as root";
/// Handshakes that have begun with data and are not complete yet (tcp(7), TCP_FASTOPEN).
constexpr int kFastOpenQueue = 1024;

Status set_option(int fd, int level, int option, int value, std::string_view name, const SocketAddress& object) {
  if (setsockopt(fd, level, option, &value, sizeof value) == 0) return {};
  const int code = errno;
  return system_error(code, std::string("set ") + std::string(name) + " for", object.to_string(),
                      code == EPERM ? kNeedsNetAdmin : "");
}

Status set_transparent(int fd, Family family, const SocketAddress& object) {
  if (family == Family::ipv4) return set_option(fd, SOL_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT", object);
  return set_option(fd, SOL_IPV6, IPV6_TRANSPARENT, 1, "IPV6_TRANSPARENT", object);
}

/// Bytes of the IP and TCP headers without options, which a segment does not count (RFC 9293, 3.7.1).
constexpr std::uint32_t kHeadersIpv4 = 40;
constexpr std::uint32_t kHeadersIpv6 = 60;

Status set_common(int fd, std::uint32_t mark, std::chrono::seconds keepalive_idle, std::uint32_t smallest_mtu,
                  const SocketAddress& object) {
  const std::uint32_t headers = object.family() == Family::ipv4 ? kHeadersIpv4 : kHeadersIpv6;
  if (smallest_mtu > headers) {
    const int segment = static_cast<int>(smallest_mtu - headers);
    if (auto set = set_option(fd, IPPROTO_TCP, TCP_MAXSEG, segment, "TCP_MAXSEG", object); !set) return set;
  }
  // Small messages must not wait for the other leg's acknowledgement: a relay adds no delay of its own.
  if (auto set = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY", object); !set) return set;
  // Urgent data (telnet, FTP) is passed on as ordinary bytes in its place, instead of being lost between recv(2) calls.
  if (auto set = set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE", object); !set) return set;
  if (mark != 0) {
    if (auto set = set_option(fd, SOL_SOCKET, SO_MARK, static_cast<int>(mark), "SO_MARK", object); !set) return set;
  }
  if (keepalive_idle.count() > 0) {
    const int idle = static_cast<int>(keepalive_idle.count());
    if (auto set = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE", object); !set) return set;
    if (auto set = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle, "TCP_KEEPIDLE", object); !set) return set;
  }
  return {};
}

Result<UniqueFd> open_tcp(Family family, const SocketAddress& object) {
  const int domain = family == Family::ipv4 ? AF_INET : AF_INET6;
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd.valid()) return system_error(errno, "open a socket for", object.to_string());
  return fd;
}

Result<SocketAddress> read_address(int fd, decltype(getsockname)* call, std::string_view name) {
  sockaddr_storage native{};
  socklen_t length = sizeof native;
  if (call(fd, reinterpret_cast<sockaddr*>(&native), &length) != 0) return system_error(errno, name, "");
  return SocketAddress::from_native(native);
}

Status bind_source(int fd, const SocketAddress& source) {
  // With a port of its own, earlier flows of that client in TIME_WAIT must not be in the way.
  if (source.port.value != 0) {
    if (auto set = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR", source); !set) return set;
  }
  return bind_transparent(fd, source);
}

/// Options, bind and listen of a new socket.
Result<UniqueFd> listen_on(UniqueFd fd, const SocketAddress& local, const ListenOptions& options) {
  const int raw = fd.get();
  if (local.family() == Family::ipv6) {
    auto set = set_option(raw, SOL_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY", local);
    if (!set) return std::unexpected(set.error());
  }
  auto reuse = set_option(raw, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR", local);
  if (reuse && options.reuse_port) reuse = set_option(raw, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT", local);
  if (reuse && options.fast_open)
    reuse = set_option(raw, IPPROTO_TCP, TCP_FASTOPEN, kFastOpenQueue, "TCP_FASTOPEN", local);
  if (!reuse) return std::unexpected(reuse.error());
  if (auto set = set_common(raw, options.mark, options.keepalive_idle, options.smallest_mtu, local); !set)
    return std::unexpected(set.error());

  sockaddr_storage native{};
  const auto length = local.to_native(native);
  if (bind(raw, reinterpret_cast<const sockaddr*>(&native), length) != 0) {
    const int code = errno;
    return system_error(code, "bind", local.to_string(),
                        code == EACCES ? "ports below 1024 need CAP_NET_BIND_SERVICE: run it as root" : "");
  }
  if (listen(raw, options.backlog) != 0) return system_error(errno, "listen on", local.to_string());
  return fd;
}

}  // namespace

Status bind_transparent(int fd, const SocketAddress& local) {
  if (auto set = set_transparent(fd, local.family(), local); !set) return set;
  if (local.port.value == 0) {
    // Chosen at connect, so that only the 4-tuple must be unique and not the pair (kernel: inet_csk_get_port against
    // __inet_hash_connect).
    auto set = set_option(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, "IP_BIND_ADDRESS_NO_PORT", local);
    if (!set) return set;
  }
  sockaddr_storage native{};
  const auto length = local.to_native(native);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&native), length) == 0) return {};
  return system_error(errno, "bind", local.to_string());
}

Result<UniqueFd> listen_transparent(const SocketAddress& local, const ListenOptions& options) {
  auto fd = open_tcp(local.family(), local);
  if (!fd) return fd;
  if (auto set = set_transparent(fd->get(), local.family(), local); !set) return std::unexpected(set.error());
  return listen_on(std::move(*fd), local, options);
}

Result<UniqueFd> listen_ordinary(const SocketAddress& local, const ListenOptions& options) {
  auto fd = open_tcp(local.family(), local);
  if (!fd) return fd;
  return listen_on(std::move(*fd), local, options);
}

Result<UniqueFd> connect_transparent(const SocketAddress& target, const ConnectOptions& options) {
  auto fd = open_tcp(target.family(), target);
  if (!fd) return fd;
  if (auto set = set_common(fd->get(), options.mark, options.keepalive_idle, options.smallest_mtu, target); !set) {
    return std::unexpected(set.error());
  }
  if (!options.interface.empty() && setsockopt(fd->get(), SOL_SOCKET, SO_BINDTODEVICE, options.interface.data(),
                                               static_cast<socklen_t>(options.interface.size())) != 0) {
    return system_error(errno, "bind to interface", options.interface);
  }
  if (options.source) {
    if (auto bound = bind_source(fd->get(), *options.source); !bound) return std::unexpected(bound.error());
  }
  if (options.fast_open) {
    auto set = set_option(fd->get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1, "TCP_FASTOPEN_CONNECT", target);
    // EOPNOTSUPP: the administrator has switched it off for clients, so this is an ordinary handshake.
    if (!set && set.error().code != EOPNOTSUPP) return std::unexpected(set.error());
  }
  sockaddr_storage native{};
  const auto length = target.to_native(native);
  if (connect(fd->get(), reinterpret_cast<const sockaddr*>(&native), length) != 0 && errno != EINPROGRESS) {
    return system_error(errno, "connect to", target.to_string());
  }
  return fd;
}

void reset_at_close(int fd) noexcept {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void finish_at_close(int fd) noexcept {
  const linger usual{.l_onoff = 0, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &usual, sizeof usual);
}

Result<std::size_t> send_with_syn(int connecting, std::span<const std::byte> bytes) {
  const ssize_t sent = send(connecting, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) return static_cast<std::size_t>(sent);
  // EINPROGRESS: the SYN left without bytes. EAGAIN: it had left before.
  if (errno == EINPROGRESS || errno == EAGAIN || errno == EINTR) return std::size_t{0};
  return system_error(errno, "connect", "");
}

Result<SocketAddress> original_destination(int accepted) {
  return read_address(accepted, getsockname, "getsockname");
}

Result<SocketAddress> peer_address(int connected) {
  return read_address(connected, getpeername, "getpeername");
}

}  // namespace limpid
