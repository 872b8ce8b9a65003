// TCP keeps the interface and the TOS of the segment that completed the handshake (mc_index and rcv_tos in tcp_v4_syn_recv_sock(), net/ipv4/tcp_ipv4.c; mcast_oif and
// rcv_flowinfo in tcp_v6_syn_recv_sock()), and tells them to whoever asks for IP_PKTOPTIONS or IPV6_2292PKTOPTIONS with the flags of ancillary data set.
#include "net/client_arrival.h"

#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "net/netlink_message.h"

namespace limpid {
namespace {

constexpr int kSaveWithLink = 2;  // TCP_SAVE_SYN: the link's header too, tcp(7) does not say so; net/ipv4/tcp.c
constexpr std::size_t kIpv6HeaderBytes = 40;

struct Flags {
  int level;
  int packet_info;
  int traffic_class;
  int ask;
};

constexpr Flags flags_of(Family family) noexcept {
  return family == Family::ipv4 ? Flags{SOL_IP, IP_PKTINFO, IP_RECVTOS, IP_PKTOPTIONS}
                                : Flags{SOL_IPV6, IPV6_RECVPKTINFO, IPV6_RECVTCLASS, IPV6_2292PKTOPTIONS};
}

void set_flag(int fd, int level, int name, int value) noexcept {
  setsockopt(fd, level, name, &value, sizeof value);
}

template <class Value>
std::optional<Value> value_of(const cmsghdr& control) noexcept {
  if (control.cmsg_len < CMSG_LEN(sizeof(Value))) return std::nullopt;
  Value value{};
  std::memcpy(&value, CMSG_DATA(&control), sizeof value);
  return value;
}

void read(const cmsghdr& control, ConnectionArrival& arrival) noexcept {
  if (control.cmsg_level == SOL_IP && control.cmsg_type == IP_PKTINFO) {
    if (const auto info = value_of<in_pktinfo>(control))
      arrival.interface = static_cast<std::uint32_t>(info->ipi_ifindex);
  } else if (control.cmsg_level == SOL_IPV6 && control.cmsg_type == IPV6_PKTINFO) {
    if (const auto info = value_of<in6_pktinfo>(control)) arrival.interface = info->ipi6_ifindex;
  } else if ((control.cmsg_level == SOL_IP && control.cmsg_type == IP_TOS) ||
             (control.cmsg_level == SOL_IPV6 && control.cmsg_type == IPV6_TCLASS)) {
    if (const auto value = value_of<int>(control)) arrival.traffic_class = static_cast<std::uint8_t>(*value);
  }
}

std::size_t words(std::byte value) noexcept {
  return std::to_integer<std::size_t>(value & std::byte{0x0f}) * 4;
}

/// Whether an IP and a TCP header, and nothing else, stand there.
bool is_syn(std::span<const std::byte> packet, Family family) noexcept {
  constexpr std::size_t kSmallestTcp = 20;
  constexpr std::size_t kDataOffset = 12;
  if (packet.empty()) return false;
  const unsigned version = std::to_integer<unsigned>(packet.front()) >> 4U;
  if (version != (family == Family::ipv4 ? 4U : 6U)) return false;
  const std::size_t network = family == Family::ipv4 ? words(packet.front()) : kIpv6HeaderBytes;
  if (packet.size() < network + kSmallestTcp) return false;
  return packet.size() == network + words(packet[network + kDataOffset] >> 4U);
}

std::optional<LinkAddress> link_address(std::span<const std::byte> bytes) noexcept {
  LinkAddress address{};
  if (bytes.size() != address.size()) return std::nullopt;
  std::memcpy(address.data(), bytes.data(), address.size());
  return address == LinkAddress{} ? std::nullopt : std::optional(address);
}

}  // namespace

std::optional<ConnectionArrival> connection_arrival(int accepted, Family family) noexcept {
  const Flags flags = flags_of(family);
  alignas(cmsghdr) std::array<std::byte, 256> buffer{};
  socklen_t length = buffer.size();
  set_flag(accepted, flags.level, flags.packet_info, 1);
  set_flag(accepted, flags.level, flags.traffic_class, 1);
  const int outcome = getsockopt(accepted, flags.level, flags.ask, buffer.data(), &length);
  // Off again: of IPv6, every segment would be copied for them (tcp_v6_do_rcv(), net/ipv6/tcp_ipv6.c).
  set_flag(accepted, flags.level, flags.packet_info, 0);
  set_flag(accepted, flags.level, flags.traffic_class, 0);
  if (outcome != 0) return std::nullopt;
  msghdr message{};
  message.msg_control = buffer.data();
  message.msg_controllen = length;
  ConnectionArrival arrival;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control))
    read(*control, arrival);
  return arrival;
}

void keep_syn_headers(int listener, bool keep) noexcept {
  set_flag(listener, IPPROTO_TCP, TCP_SAVE_SYN, keep ? kSaveWithLink : 0);
}

std::optional<LinkAddress> sender_of_syn(int accepted, Family family) noexcept {
  constexpr std::array<std::size_t, 2> kLinkHeaders{14, 18};  // Ethernet, without and with a VLAN tag
  std::array<std::byte, 512> buffer{};
  socklen_t length = buffer.size();
  if (getsockopt(accepted, IPPROTO_TCP, TCP_SAVED_SYN, buffer.data(), &length) != 0) return std::nullopt;
  const auto packet = std::span<const std::byte>(buffer).first(length);
  for (const std::size_t link : kLinkHeaders) {
    if (packet.size() > link && is_syn(packet.subspan(link), family))
      return link_address(packet.subspan(sizeof(LinkAddress), sizeof(LinkAddress)));  // behind the receiver's
  }
  return std::nullopt;
}

Result<NeighborSocket> NeighborSocket::open() {
  auto socket = NetlinkSocket::open(NETLINK_ROUTE);
  if (!socket) return std::unexpected(socket.error());
  return NeighborSocket(std::move(*socket));
}

std::optional<LinkAddress> NeighborSocket::find(std::uint32_t interface, const IpAddress& address) {
  netlink::Request request(RTM_GETNEIGH, 0);
  auto& header = request.extra_header<ndmsg>();
  header.ndm_family = netlink::to_native(address.family());
  header.ndm_ifindex = static_cast<int>(interface);
  netlink::put_address(request.header(), NDA_DST, address);
  std::optional<LinkAddress> found;
  // Not there: an error, and as good an answer.
  std::ignore = socket_.ask(request.header(), "look up a neighbour", "", [&](const nlmsghdr& message) {
    if (message.nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(&message) < sizeof(ndmsg)) return;
    constexpr unsigned kValid = NUD_PERMANENT | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;
    if ((static_cast<const ndmsg*>(mnl_nlmsg_get_payload(&message))->ndm_state & kValid) == 0) return;
    const netlink::Attributes<NDA_LLADDR> attributes(message, sizeof(ndmsg));
    if (const nlattr* bytes = attributes[NDA_LLADDR])
      found =
          link_address({static_cast<const std::byte*>(mnl_attr_get_payload(bytes)), mnl_attr_get_payload_len(bytes)});
  });
  return found;
}

std::string interface_name(std::uint32_t index) {
  std::array<char, IF_NAMESIZE> name{};
  return if_indextoname(index, name.data()) != nullptr ? std::string(name.data()) : std::string();
}

}  // namespace limpid
