// Options for sockets of other programs. Each function asks the socket itself what it is: nothing the program says is
// believed.
#include "net/lent_socket.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr std::string_view kRemedy =
    "needs CAP_NET_ADMIN in this network namespace: run it as root, or in a network of your own: limpid lab run";

std::optional<int> read_option(int fd, int level, int option) noexcept {
  int value = 0;
  socklen_t length = sizeof value;
  if (getsockopt(fd, level, option, &value, &length) != 0) return std::nullopt;
  return value;
}

Status set_option(int fd, int level, int option, int value, std::string_view name) {
  if (setsockopt(fd, level, option, &value, sizeof value) == 0) return {};
  const int code = errno;
  return system_error(code, "set", name, code == EPERM ? kRemedy : "");
}

IpAddress mapped(const IpAddress& ipv4) noexcept {
  const auto& bytes = ipv4.bytes();
  return IpAddress::from_bytes(Family::ipv6,
                               {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, bytes[0], bytes[1], bytes[2], bytes[3]});
}

}  // namespace

std::optional<LentSocket> inspect_lent_socket(int fd) noexcept {
  const auto domain = read_option(fd, SOL_SOCKET, SO_DOMAIN);
  if (!domain || (*domain != AF_INET && *domain != AF_INET6)) return std::nullopt;
  LentSocket socket{.fd = fd, .family = *domain == AF_INET ? Family::ipv4 : Family::ipv6};
  const int type = read_option(fd, SOL_SOCKET, SO_TYPE).value_or(0);
  const int protocol = read_option(fd, SOL_SOCKET, SO_PROTOCOL).value_or(0);
  if (type == SOCK_STREAM) socket.kind = SocketKind::stream;
  if (type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE)) {
    socket.kind = SocketKind::datagram;
  }
  return socket;
}

Status make_transparent(const LentSocket& socket) {
  // Both set the same bit of the kernel's socket, so that a dual-stack one needs no second call
  // (net/ipv6/ipv6_sockglue.c).
  auto set = socket.family == Family::ipv4 ? set_option(socket.fd, SOL_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT")
                                           : set_option(socket.fd, SOL_IPV6, IPV6_TRANSPARENT, 1, "IPV6_TRANSPARENT");
  if (!set && (set.error().code == ENOPROTOOPT || set.error().code == EOPNOTSUPP)) return {};
  return set;
}

Status mark_unless_marked(const LentSocket& socket, std::uint32_t mark) {
  if (read_option(socket.fd, SOL_SOCKET, SO_MARK).value_or(0) != 0) return {};
  return set_option(socket.fd, SOL_SOCKET, SO_MARK, static_cast<int>(mark), "SO_MARK");
}

bool is_unbound(const LentSocket& socket) noexcept {
  sockaddr_storage native{};
  socklen_t length = sizeof native;
  if (getsockname(socket.fd, reinterpret_cast<sockaddr*>(&native), &length) != 0) return false;
  const auto local = SocketAddress::from_native(native);
  return local && local->address.is_unspecified() && local->port.value == 0;
}

Status bind_foreign(const LentSocket& socket, const IpAddress& source) {
  if (auto set = make_transparent(socket); !set) return set;
  if (auto set = set_option(socket.fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, "IP_BIND_ADDRESS_NO_PORT"); !set) return set;
  const bool needs_mapping = socket.family == Family::ipv6 && source.family() == Family::ipv4;
  sockaddr_storage native{};
  const auto length = SocketAddress{.address = needs_mapping ? mapped(source) : source, .port = {}}.to_native(native);
  if (bind(socket.fd, reinterpret_cast<const sockaddr*>(&native), length) == 0) return {};
  return system_error(errno, "bind", source.to_string());
}

std::optional<SocketAddress> read_native_address(std::span<const std::byte> native) noexcept {
  sockaddr_storage copy{};
  if (native.size() < sizeof copy.ss_family || native.size() > sizeof copy) return std::nullopt;
  std::memcpy(&copy, native.data(), native.size());
  // As the kernel has it: an IPv6 address may come without its scope (SIN6_LEN_RFC2133 of net/ipv6.h).
  const std::size_t least =
      copy.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6) - sizeof(sockaddr_in6::sin6_scope_id);
  if (native.size() < least) return std::nullopt;
  auto address = SocketAddress::from_native(copy);
  if (!address) return std::nullopt;
  return *address;
}

Status check_may_lend(std::uint32_t mark) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error(errno, "open", "socket");
  const LentSocket own{.fd = fd.get(), .family = Family::ipv4, .kind = SocketKind::stream};
  if (auto set = make_transparent(own); !set) return set;
  return mark == 0 ? Status{} : mark_unless_marked(own, mark);
}

}  // namespace limpid
