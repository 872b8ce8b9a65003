// What the netlink_*.cc files share: the open rtnetlink socket, and families and addresses as attributes.
#include "net/netlink.h"

#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <utility>

#include "net/netlink_message.h"

namespace limpid {

RouteSocket::RouteSocket(NetlinkSocket socket) noexcept : socket_(std::move(socket)) {}

Result<RouteSocket> RouteSocket::open() {
  auto socket = NetlinkSocket::open(NETLINK_ROUTE);
  if (!socket) return std::unexpected(socket.error());
  return RouteSocket(std::move(*socket));
}

namespace netlink {

std::uint8_t to_native(Family family) noexcept {
  return family == Family::ipv4 ? AF_INET : AF_INET6;
}

std::optional<Family> family_of(unsigned native) noexcept {
  if (native == AF_INET) return Family::ipv4;
  if (native == AF_INET6) return Family::ipv6;
  return std::nullopt;
}

void put_address(nlmsghdr& message, std::uint16_t type, const IpAddress& address) noexcept {
  mnl_attr_put(&message, type, address.bits() / 8, address.bytes().data());
}

std::optional<IpAddress> get_address(const nlattr* attribute, Family family) noexcept {
  const std::size_t length = family == Family::ipv4 ? 4 : 16;
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != length) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), mnl_attr_get_payload(attribute), length);
  return IpAddress::from_bytes(family, bytes);
}

}  // namespace netlink
}  // namespace limpid
