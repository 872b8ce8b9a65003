// sock_diag through libmnl: one dump for each family. The attributes are those that inet_diag_msg_attrs_fill() of the kernel's
// net/ipv4/inet_diag.c puts into every answer, asked for or not: INET_DIAG_SOCKOPT since 5.10, INET_DIAG_SKV6ONLY since 4.3,
// INET_DIAG_MARK since 4.10.
#include "net/socket_diag.h"

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "net/netlink_message.h"
#include "net/netlink_socket.h"
#include "net/proc_sockets.h"

namespace limpid {
namespace {

using netlink::Request;

// include/net/tcp_states.h. A UDP socket is in the first when connected, in the second when not.
constexpr unsigned kEstablished = 1;
constexpr unsigned kClose = 7;
constexpr unsigned kListen = 10;

std::uint32_t states_of(Transport transport) noexcept {
  return transport == Transport::tcp ? 1U << kListen : 1U << kEstablished | 1U << kClose;
}

ServerSocket read_socket(const nlmsghdr& message, const inet_diag_msg& header, Transport transport, Family family) {
  const netlink::Attributes<INET_DIAG_SOCKOPT> attributes(message, sizeof header);
  ServerSocket found;
  found.transport = transport;
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &header.id.idiag_src, bytes.size());
  found.local = {.address = IpAddress::from_bytes(family, bytes), .port = Port{ntohs(header.id.idiag_sport)}};
  found.connected = header.idiag_state == kEstablished;
  found.ipv6_only = attributes.u8(INET_DIAG_SKV6ONLY).value_or(0) != 0;
  if (header.id.idiag_if != 0) {
    std::array<char, IF_NAMESIZE> name{};
    // One that has gone by now is a number: nothing arrives there.
    found.device = if_indextoname(header.id.idiag_if, name.data()) != nullptr ? std::string(name.data())
                                                                              : std::to_string(header.id.idiag_if);
  }
  found.mark = attributes.u32(INET_DIAG_MARK);
  found.user = header.idiag_uid;
  found.inode = header.idiag_inode;
  if (const nlattr* options = attributes[INET_DIAG_SOCKOPT]) {
    inet_diag_sockopt bits{};
    if (mnl_attr_get_payload_len(options) >= sizeof bits) {
      std::memcpy(&bits, mnl_attr_get_payload(options), sizeof bits);
      found.transparent = bits.transparent != 0;
    }
  }
  return found;
}

Status add_sockets(NetlinkSocket& socket, Transport transport, std::optional<Port> port, Family family,
                   std::vector<ServerSocket>& sockets) {
  Request request(SOCK_DIAG_BY_FAMILY, 0);
  auto& query = request.extra_header<inet_diag_req_v2>();
  query.sdiag_family = netlink::to_native(family);
  query.sdiag_protocol = transport == Transport::tcp ? IPPROTO_TCP : IPPROTO_UDP;
  query.idiag_states = states_of(transport);
  query.id.idiag_sport = htons(port.value_or(Port{}).value);
  query.id.idiag_cookie[0] = query.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  const std::size_t before = sockets.size();
  return socket.dump(
      request.header(), "list " + std::string(to_string(transport)) + " sockets", [&] { sockets.resize(before); },
      [&](const nlmsghdr& message) {
        if (message.nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(&message) < sizeof(inet_diag_msg))
          return;
        const auto& header = *static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(&message));
        if (netlink::family_of(header.idiag_family) == family) {
          sockets.push_back(read_socket(message, header, transport, family));
        }
      });
}

}  // namespace

bool ServerSocket::hears_loopback(Family family) const noexcept {
  if (connected) return false;
  if (local.address.is_unspecified()) return local.family() == family || (local.family() == Family::ipv6 && !ipv6_only);
  return local.address.unmapped() == IpAddress::loopback(family);
}

Result<std::vector<ServerSocket>> server_sockets(Transport transport, std::optional<Port> port) {
  auto socket = NetlinkSocket::open(NETLINK_SOCK_DIAG);
  if (!socket) return std::unexpected(socket.error());
  std::vector<ServerSocket> sockets;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    auto added = add_sockets(*socket, transport, port, family, sockets);
    // What sock_diag answers where its module for this transport is not there (inet_diag_lock_handler()).
    if (!added && added.error().code == ENOENT) return server_sockets_in_proc(transport, port);
    if (!added) return std::unexpected(added.error());
  }
  return sockets;
}

}  // namespace limpid
