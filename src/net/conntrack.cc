// ctnetlink (net/netfilter/nf_conntrack_netlink.c): one request, IPCTNL_MSG_CT_DELETE with the original direction's tuple.
#include "net/conntrack.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include <cerrno>

#include "net/netlink_message.h"
#include "net/netlink_socket.h"

namespace limpid {

Status forget_connection(Transport transport, const SocketAddress& source, const SocketAddress& destination) {
  const bool ipv4 = destination.family() == Family::ipv4;
  netlink::Request request((NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_DELETE, 0);
  auto& header = request.extra_header<nfgenmsg>();
  header.nfgen_family = netlink::to_native(destination.family());
  header.version = NFNETLINK_V0;
  nlmsghdr& message = request.header();
  nlattr* tuple = mnl_attr_nest_start(&message, CTA_TUPLE_ORIG);
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

  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!socket) return std::unexpected(socket.error());
  auto changed = socket->change(message, "forget the connection from", source.to_string());
  if (changed) return {};
  const int code = changed.error().code;
  // EINVAL: no ctnetlink in this kernel.
  if (code == ENOENT || code == EINVAL || code == EOPNOTSUPP) return {};
  return changed;
}

}  // namespace limpid
