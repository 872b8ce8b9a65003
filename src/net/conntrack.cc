// ctnetlink (net/netfilter/nf_conntrack_netlink.c): one request, IPCTNL_MSG_CT_DELETE with the original direction's tuple.
#include "net/conntrack.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "limpid/unique_fd.h"
#include "net/netlink_message.h"

namespace limpid {

Status forget_connection(Transport transport, const SocketAddress& source, const SocketAddress& destination) {
  const bool ipv4 = destination.family() == Family::ipv4;
  netlink::Request request((NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_DELETE, NLM_F_ACK);
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

  constexpr std::string_view kOperation = "forget the connection from";
  // The kernel acts while it is being asked: its answer waits when send returns.
  const UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
  if (!fd.valid()) return system_error(errno, "open", "netlink socket");
  if (send(fd.get(), &message, message.nlmsg_len, 0) < 0) return system_error(errno, kOperation, source.to_string());
  struct {
    nlmsghdr header;
    nlmsgerr error;
    std::array<std::byte, 1024> rest;
  } answer{};
  const ssize_t length = recv(fd.get(), &answer, sizeof answer, 0);
  if (length < static_cast<ssize_t>(sizeof(nlmsghdr) + sizeof(int)) || answer.header.nlmsg_type != NLMSG_ERROR)
    return {};
  const int code = -answer.error.error;
  // EINVAL: no ctnetlink in this kernel.
  if (code == 0 || code == ENOENT || code == EINVAL || code == EOPNOTSUPP) return {};
  return system_error(code, kOperation, source.to_string(), "needs CAP_NET_ADMIN");
}

}  // namespace limpid
