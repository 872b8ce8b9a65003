// Opens the sockets of endpoint.h. Whether a socket must be transparent is decided here, from the host's addresses, so
// that what needs no privileges asks for none.
#include "net/endpoint.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "limpid/datagram.h"
#include "limpid/transparent.h"
#include "net/netlink.h"

namespace limpid {
namespace {

constexpr std::string_view kForeignNeedsNetAdmin =
    "an address that this host does not have needs CAP_NET_ADMIN: run it as root";
constexpr std::string_view kTransparentNeedsNetAdmin = "a transparent socket needs CAP_NET_ADMIN: run it as root";
constexpr int kBacklog = 128;

struct Option {
  int level;
  int name;
  std::string_view text;
};

Status set_option(int fd, const Option& option, const SocketAddress& object, std::string_view remedy = {}) {
  const int on = 1;
  if (setsockopt(fd, option.level, option.name, &on, sizeof on) == 0) return {};
  return system_error(errno, std::string("set ") + std::string(option.text) + " for", object.to_string(), remedy);
}

Status make_transparent(int fd, const SocketAddress& local, std::string_view remedy) {
  const Option option = local.family() == Family::ipv4 ? Option{SOL_IP, IP_TRANSPARENT, "IP_TRANSPARENT"}
                                                       : Option{SOL_IPV6, IPV6_TRANSPARENT, "IPV6_TRANSPARENT"};
  return set_option(fd, option, local, remedy);
}

Result<UniqueFd> open_socket(Transport transport, const SocketAddress& object) {
  const int domain = object.family() == Family::ipv4 ? AF_INET : AF_INET6;
  const int type = transport == Transport::tcp ? SOCK_STREAM : SOCK_DGRAM;
  UniqueFd fd(socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return system_error(errno, "open a socket for", object.to_string());
  if (object.family() == Family::ipv6) {
    if (auto set = set_option(fd.get(), {SOL_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY"}, object); !set) {
      return std::unexpected(set.error());
    }
  }
  return fd;
}

Status bind_socket(int fd, const SocketAddress& local) {
  sockaddr_storage native{};
  const auto length = local.to_native(native);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&native), length) == 0) return {};
  const int code = errno;
  return system_error(code, "bind", local.to_string(),
                      code == EACCES ? "ports below 1024 need CAP_NET_BIND_SERVICE: run it as root" : "");
}

Status connect_socket(int fd, const SocketAddress& target) {
  sockaddr_storage native{};
  const auto length = target.to_native(native);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&native), length) == 0 || errno == EINPROGRESS) return {};
  return system_error(errno, "connect to", target.to_string());
}

/// Of a socket that is to be bound to `local`.
Status prepare_local(int fd, const SocketAddress& local, Transparency transparency) {
  if (transparency == Transparency::always) return make_transparent(fd, local, kTransparentNeedsNetAdmin);
  const auto foreign = is_foreign(local.address);
  if (!foreign) return std::unexpected(foreign.error());
  return *foreign ? make_transparent(fd, local, kForeignNeedsNetAdmin) : Status();
}

/// Room for the packet information of either family.
constexpr std::size_t kControlBytes = CMSG_SPACE(sizeof(in6_pktinfo));

template <class PacketInfo>
void put_packet_info(msghdr& message, int level, int type, const PacketInfo& info) {
  message.msg_controllen = CMSG_SPACE(sizeof info);
  cmsghdr* control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = level;
  control->cmsg_type = type;
  control->cmsg_len = CMSG_LEN(sizeof info);
  std::memcpy(CMSG_DATA(control), &info, sizeof info);
}

/// One datagram with `from` as its source, through a socket that has from's port: ip(7) and ipv6(7), IP_PKTINFO.
ssize_t send_with_source(int fd, const SocketAddress& from, const SocketAddress& to,
                         std::span<const std::byte> payload) {
  sockaddr_storage native{};
  const auto length = to.to_native(native);
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control{};
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): sendmsg(2) only reads it
  iovec piece{.iov_base = const_cast<std::byte*>(payload.data()), .iov_len = payload.size()};
  msghdr message{};
  message.msg_name = &native;
  message.msg_namelen = length;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (from.family() == Family::ipv4) {
    in_pktinfo info{};
    std::memcpy(&info.ipi_spec_dst, from.address.bytes().data(), sizeof info.ipi_spec_dst);
    put_packet_info(message, SOL_IP, IP_PKTINFO, info);
  } else {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, from.address.bytes().data(), sizeof info.ipi6_addr);
    info.ipi6_ifindex = from.address.is_link_local() ? to.scope_id : 0;
    put_packet_info(message, SOL_IPV6, IPV6_PKTINFO, info);
  }
  return sendmsg(fd, &message, MSG_NOSIGNAL);
}

}  // namespace

std::string_view to_string(Transport transport) noexcept {
  return transport == Transport::tcp ? "TCP" : "UDP";
}

std::optional<IpAddress> source_towards(const SocketAddress& to, std::uint32_t mark) noexcept {
  const int domain = to.family() == Family::ipv4 ? AF_INET : AF_INET6;
  const UniqueFd fd(socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_storage native{};
  socklen_t length = to.to_native(native);
  // connect(2) sends nothing for UDP: it looks up the route, and with it the source.
  if (!fd.valid() || setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0 ||
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0) {
    return std::nullopt;
  }
  length = sizeof native;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&native), &length) != 0) return std::nullopt;
  const auto local = SocketAddress::from_native(native);
  return local ? std::optional(local->address) : std::nullopt;
}

Result<bool> is_foreign(const IpAddress& address) {
  if (address.is_unspecified() || address.is_loopback() || address.is_multicast()) return false;
  const auto own = own_addresses();
  if (!own) return std::unexpected(own.error());
  return std::ranges::find(*own, address) == own->end();
}

Result<UniqueFd> open_listener(Transport transport, const SocketAddress& local, Transparency transparency) {
  auto fd = open_socket(transport, local);
  if (!fd) return fd;
  const int raw = fd->get();
  if (auto set = prepare_local(raw, local, transparency); !set) return std::unexpected(set.error());
  constexpr Option reuse = {SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"};
  if (transport == Transport::tcp) {
    if (auto set = set_option(raw, reuse, local); !set) return std::unexpected(set.error());
    if (auto bound = bind_socket(raw, local); !bound) return std::unexpected(bound.error());
    if (listen(raw, kBacklog) != 0) return system_error(errno, "listen on", local.to_string());
    return fd;
  }
  const Option original = local.family() == Family::ipv4
                              ? Option{SOL_IP, IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR"}
                              : Option{SOL_IPV6, IPV6_RECVORIGDSTADDR, "IPV6_RECVORIGDSTADDR"};
  if (auto set = set_option(raw, original, local); !set) return std::unexpected(set.error());
  if (auto bound = bind_socket(raw, local); !bound) return std::unexpected(bound.error());
  // After bind, not before: a port that somebody else has is an error, and our own sockets can still be bound to one of
  // the addresses of this port.
  if (auto set = set_option(raw, reuse, local); !set) return std::unexpected(set.error());
  return fd;
}

Result<UniqueFd> open_caller(Transport transport, const std::optional<SocketAddress>& local,
                             const SocketAddress& target, Transparency transparency) {
  auto fd = open_socket(transport, target);
  if (!fd) return fd;
  const int raw = fd->get();
  if (local) {
    if (auto set = prepare_local(raw, *local, transparency); !set) return std::unexpected(set.error());
    // Without a port: chosen at connect, so that only the whole 4-tuple must be unique (ip(7)). With one: an earlier
    // connection in TIME_WAIT must not be in the way.
    const Option option = local->port.value == 0 ? Option{SOL_IP, IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT"}
                                                 : Option{SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"};
    if (auto set = set_option(raw, option, *local); !set) return std::unexpected(set.error());
    if (auto bound = bind_socket(raw, *local); !bound) return std::unexpected(bound.error());
  }
  if (auto connected = connect_socket(raw, target); !connected) return std::unexpected(connected.error());
  return fd;
}

int connection_outcome(int fd) noexcept {
  // SO_ERROR could not tell a reset in place of a connection from one after it. A look at the first byte reports an
  // error only where there is none, and otherwise leaves the error for the reader.
  char first = 0;
  const ssize_t count = recv(fd, &first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
  return count >= 0 || errno == EAGAIN ? 0 : errno;
}

int take_error(int fd) noexcept {
  int code = 0;
  socklen_t length = sizeof code;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0 ? code : errno;
}

Status answer_datagram(int listener, const SocketAddress& from, const SocketAddress& to,
                       std::span<const std::byte> payload) {
  const auto own = original_destination(listener);
  if (!own) return std::unexpected(own.error());
  bool sent = false;
  if (own->port == from.port) {
    sent = send_with_source(listener, from, to, payload) >= 0;
  } else {
    auto sender = RawSender::open(from.family());
    if (!sender) return std::unexpected(sender.error());
    const SpoofedDatagram answer{.from = from, .to = to, .payload = payload};
    sent = sender->send(std::span(&answer, 1)) == 1;
  }
  return sent ? Status() : system_error(errno, "answer", to.to_string());
}

}  // namespace limpid
