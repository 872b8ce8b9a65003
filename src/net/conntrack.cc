// ctnetlink (net/netfilter/nf_conntrack_netlink.c): requests that name an entry by one of its tuples.
#include "net/conntrack.h"

#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "net/netlink_message.h"
#include "net/netlink_socket.h"

namespace limpid {

namespace {

void put_tuple(nlmsghdr& message, std::uint16_t type, Transport transport, const SocketAddress& source,
               const SocketAddress& destination) {
  const bool ipv4 = destination.family() == Family::ipv4;
  nlattr* tuple = mnl_attr_nest_start(&message, type);
  nlattr* addresses = mnl_attr_nest_start(&message, CTA_TUPLE_IP);
  netlink::put_address(message, ipv4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, source.address);
  netlink::put_address(message, ipv4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, destination.address);
  mnl_attr_nest_end(&message, addresses);
  nlattr* protocol = mnl_attr_nest_start(&message, CTA_TUPLE_PROTO);
  mnl_attr_put_u8(&message, CTA_PROTO_NUM, transport == Transport::tcp ? IPPROTO_TCP : IPPROTO_UDP);
  mnl_attr_put_u16(&message, CTA_PROTO_SRC_PORT, htons(source.port.value));
  mnl_attr_put_u16(&message, CTA_PROTO_DST_PORT, htons(destination.port.value));
  mnl_attr_nest_end(&message, protocol);
  mnl_attr_nest_end(&message, tuple);
}

void begin_request(netlink::Request& request, Family family) {
  auto& header = request.extra_header<nfgenmsg>();
  header.nfgen_family = netlink::to_native(family);
  header.version = NFNETLINK_V0;
}

struct Tuple {
  SocketAddress source;
  SocketAddress destination;
  bool operator==(const Tuple&) const = default;
};

std::optional<Tuple> read_tuple(const nlattr* attribute, Family family) {
  const bool ipv4 = family == Family::ipv4;
  const netlink::Attributes<CTA_TUPLE_PROTO> parts(attribute);
  const netlink::Attributes<CTA_IP_V6_DST> addresses(parts[CTA_TUPLE_IP]);
  const netlink::Attributes<CTA_PROTO_DST_PORT> ports(parts[CTA_TUPLE_PROTO]);
  const auto source = netlink::get_address(addresses[ipv4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC], family);
  const auto destination = netlink::get_address(addresses[ipv4 ? CTA_IP_V4_DST : CTA_IP_V6_DST], family);
  const auto* from = ports[CTA_PROTO_SRC_PORT];
  const auto* to = ports[CTA_PROTO_DST_PORT];
  if (!source || !destination || from == nullptr || to == nullptr) return std::nullopt;
  if (mnl_attr_validate(from, MNL_TYPE_U16) < 0 || mnl_attr_validate(to, MNL_TYPE_U16) < 0) return std::nullopt;
  return Tuple{.source = {.address = *source, .port = Port{ntohs(mnl_attr_get_u16(from))}},
               .destination = {.address = *destination, .port = Port{ntohs(mnl_attr_get_u16(to))}}};
}

/// Both ends have said that they are done (TCP): what is on the wire with these addresses and ports now is another connection, which tracking does not see,
/// or it would be this entry no more. Not so after a reset, which tracking may have believed and the end not.
bool is_of_an_older_connection(const nlattr* protocol_info) {
  const netlink::Attributes<CTA_PROTOINFO_TCP> protocols(protocol_info);
  const netlink::Attributes<CTA_PROTOINFO_TCP_STATE> tcp(protocols[CTA_PROTOINFO_TCP]);
  return tcp.u8(CTA_PROTOINFO_TCP_STATE) == TCP_CONNTRACK_TIME_WAIT;
}

/// Codes that say that the kernel has no ctnetlink.
bool is_absent(int code) noexcept {
  return code == EINVAL || code == EOPNOTSUPP;
}

}  // namespace

Status forget_connection(Transport transport, const SocketAddress& source, const SocketAddress& destination) {
  netlink::Request request((NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_DELETE, 0);
  begin_request(request, destination.family());
  put_tuple(request.header(), CTA_TUPLE_ORIG, transport, source, destination);

  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!socket) return std::unexpected(socket.error());
  auto changed = socket->change(request.header(), "forget the connection from", source.to_string());
  if (changed) return {};
  const int code = changed.error().code;
  if (code == ENOENT || is_absent(code)) return {};
  return changed;
}

bool tracks_connections() noexcept {
  // net/netfilter/nf_conntrack_standalone.c
  std::error_code ignored;
  return std::filesystem::exists("/proc/sys/net/netfilter/nf_conntrack_max", ignored);
}

Result<TrackedConnections> TrackedConnections::open() {
  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!socket) return std::unexpected(socket.error());
  return TrackedConnections(std::move(*socket));
}

Result<bool> TrackedConnections::is_translated(Transport transport, const SocketAddress& local,
                                               const SocketAddress& peer) {
  // Scopes are no part of a tuple.
  const Tuple ours{.source = {.address = local.address, .port = local.port},
                   .destination = {.address = peer.address, .port = peer.port}};
  const Tuple reverse{.source = ours.destination, .destination = ours.source};
  netlink::Request request((NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_GET, 0);
  begin_request(request, local.family());
  // Found by either of an entry's tuples, whatever the attribute is called (__nf_conntrack_find_get). What the socket sends is the
  // original direction of a connection that it has opened, and the reply of one that it has accepted; both are before translation.
  put_tuple(request.header(), CTA_TUPLE_ORIG, transport, ours.source, ours.destination);
  bool translated = false;
  auto asked = socket_.ask(request.header(), "look up the connection to", "", [&](const nlmsghdr& found) {
    const netlink::Attributes<CTA_PROTOINFO> attributes(found, sizeof(nfgenmsg));
    if (is_of_an_older_connection(attributes[CTA_PROTOINFO])) return;
    const auto original = read_tuple(attributes[CTA_TUPLE_ORIG], local.family());
    const auto reply = read_tuple(attributes[CTA_TUPLE_REPLY], local.family());
    translated = !((original == ours && reply == reverse) || (original == reverse && reply == ours));
  });
  if (asked) return translated;
  if (asked.error().code == ENOENT) return false;
  return std::unexpected(asked.error());
}

void TrackedConnections::go_on(const SocketAddress& client, const SocketAddress& server) {
  constexpr std::uint32_t kFirstTimeoutS = 3600;  // the next packet sets the usual one
  constexpr std::uint8_t kEstablished = 3;        // TCP_CONNTRACK_ESTABLISHED
  constexpr std::uint8_t kLiberal = 0x08;         // IP_CT_TCP_FLAG_BE_LIBERAL
  constexpr std::uint32_t kStatus = IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED;
  netlink::Request request((NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_NEW, NLM_F_CREATE);
  begin_request(request, client.family());
  nlmsghdr& message = request.header();
  put_tuple(message, CTA_TUPLE_ORIG, Transport::tcp, client, server);
  put_tuple(message, CTA_TUPLE_REPLY, Transport::tcp, server, client);
  mnl_attr_put_u32(&message, CTA_TIMEOUT, htonl(kFirstTimeoutS));
  mnl_attr_put_u32(&message, CTA_STATUS, htonl(kStatus));
  nlattr* protocol = mnl_attr_nest_start(&message, CTA_PROTOINFO);
  nlattr* tcp = mnl_attr_nest_start(&message, CTA_PROTOINFO_TCP);
  mnl_attr_put_u8(&message, CTA_PROTOINFO_TCP_STATE, kEstablished);
  const nf_ct_tcp_flags liberal{.flags = kLiberal, .mask = kLiberal};
  mnl_attr_put(&message, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, sizeof liberal, &liberal);
  mnl_attr_put(&message, CTA_PROTOINFO_TCP_FLAGS_REPLY, sizeof liberal, &liberal);
  mnl_attr_nest_end(&message, tcp);
  mnl_attr_nest_end(&message, protocol);
  // Without it the next packet begins an entry, in the middle of a connection.
  [[maybe_unused]] const Status changed = socket_.change(message, "keep the connection to", "");
}

void TrackedConnections::forget(const SocketAddress& local, const SocketAddress& peer) {
  netlink::Request request((NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_DELETE, 0);
  begin_request(request, local.family());
  put_tuple(request.header(), CTA_TUPLE_ORIG, Transport::tcp, local, peer);
  // What cannot be deleted ends by itself, later.
  [[maybe_unused]] const Status deleted = socket_.change(request.header(), "forget the connection to", "");
}

}  // namespace limpid
