// Links and addresses in rtnetlink: what the lab needs to build a network, and what a survey reads.
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "net/netlink.h"
#include "net/netlink_message.h"

namespace limpid {
namespace {

using netlink::Attributes;
using netlink::Request;

int keep_kind(const nlattr* attribute, void* kind) {
  if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND && mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0) {
    *static_cast<std::string*>(kind) = mnl_attr_get_str(attribute);
  }
  return MNL_CB_OK;
}

/// "bridge", "veth", …; empty for a physical interface, which has no kind.
std::string kind_of(const nlattr* link_info) {
  std::string kind;
  if (link_info != nullptr) mnl_attr_parse_nested(link_info, &keep_kind, &kind);
  return kind;
}

}  // namespace

Result<std::vector<LinkInfo>> RouteSocket::links() {
  Request request(RTM_GETLINK, 0);
  request.extra_header<ifinfomsg>().ifi_family = AF_UNSPEC;
  std::vector<LinkInfo> found;
  auto outcome = socket_.dump(
      request.header(), "read links", [&found] { found.clear(); },
      [&found](const nlmsghdr& message) {
        if (message.nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(&message) < sizeof(ifinfomsg)) return;
        const auto& header = *static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(&message));
        const Attributes<IFLA_LINKINFO> attributes(message, sizeof header);
        found.push_back({.index = header.ifi_index,
                         .name = attributes.text(IFLA_IFNAME),
                         .up = (header.ifi_flags & IFF_UP) != 0,
                         .mtu = attributes.u32(IFLA_MTU).value_or(0),
                         .operational = attributes.u8(IFLA_OPERSTATE).value_or(0) == IF_OPER_UP,
                         .kind = kind_of(attributes[IFLA_LINKINFO]),
                         .master = static_cast<int>(attributes.u32(IFLA_MASTER).value_or(0)),
                         .ethernet = header.ifi_type == ARPHRD_ETHER});
      });
  if (!outcome) return std::unexpected(outcome.error());
  return found;
}

Result<std::uint32_t> RouteSocket::link_index(const std::string& name) {
  const auto found = links();
  if (!found) return std::unexpected(found.error());
  for (const auto& link : *found) {
    if (link.name == name) return static_cast<std::uint32_t>(link.index);
  }
  return system_error(ENODEV, "find interface", name, "`ip link` lists them");
}

Result<std::vector<AddressInfo>> RouteSocket::addresses() {
  Request request(RTM_GETADDR, 0);
  request.extra_header<ifaddrmsg>().ifa_family = AF_UNSPEC;
  std::vector<AddressInfo> found;
  auto outcome = socket_.dump(
      request.header(), "read addresses", [&found] { found.clear(); },
      [&found](const nlmsghdr& message) {
        if (message.nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(&message) < sizeof(ifaddrmsg)) return;
        const auto& header = *static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(&message));
        const auto family = netlink::family_of(header.ifa_family);
        if (!family) return;
        const Attributes<IFA_LOCAL> attributes(message, sizeof header);
        // On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL is ours.
        auto address = netlink::get_address(attributes[IFA_LOCAL], *family);
        if (!address) address = netlink::get_address(attributes[IFA_ADDRESS], *family);
        if (!address) return;
        found.push_back({.link_index = static_cast<int>(header.ifa_index),
                         .address = *address,
                         .prefix_length = header.ifa_prefixlen});
      });
  if (!outcome) return std::unexpected(outcome.error());
  return found;
}

Status RouteSocket::set_link_up(const std::string& name) {
  const auto index = link_index(name);
  if (!index) return std::unexpected(index.error());
  Request request(RTM_NEWLINK, 0);
  auto& header = request.extra_header<ifinfomsg>();
  header.ifi_index = static_cast<int>(*index);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  return socket_.change(request.header(), "switch on", name);
}

Status RouteSocket::add_veth(const std::string& name, const std::string& peer_name, int peer_namespace) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  request.extra_header<ifinfomsg>().ifi_family = AF_UNSPEC;
  nlmsghdr& message = request.header();
  mnl_attr_put_strz(&message, IFLA_IFNAME, name.c_str());
  nlattr* link_info = mnl_attr_nest_start(&message, IFLA_LINKINFO);
  mnl_attr_put_strz(&message, IFLA_INFO_KIND, "veth");
  nlattr* data = mnl_attr_nest_start(&message, IFLA_INFO_DATA);
  // VETH_INFO_PEER holds a whole link message of its own: a header, then attributes (drivers/net/veth.c).
  nlattr* peer = mnl_attr_nest_start(&message, VETH_INFO_PEER);
  mnl_nlmsg_put_extra_header(&message, sizeof(ifinfomsg));
  mnl_attr_put_strz(&message, IFLA_IFNAME, peer_name.c_str());
  mnl_attr_put_u32(&message, IFLA_NET_NS_FD, static_cast<std::uint32_t>(peer_namespace));
  mnl_attr_nest_end(&message, peer);
  mnl_attr_nest_end(&message, data);
  mnl_attr_nest_end(&message, link_info);
  return socket_.change(message, "add veth", name);
}

Status RouteSocket::add_address(const std::string& link, const IpAddress& address, unsigned prefix_length) {
  const auto index = link_index(link);
  if (!index) return std::unexpected(index.error());
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  auto& header = request.extra_header<ifaddrmsg>();
  header.ifa_family = netlink::to_native(address.family());
  header.ifa_prefixlen = static_cast<std::uint8_t>(prefix_length);
  header.ifa_index = *index;
  if (address.family() == Family::ipv6) header.ifa_flags = IFA_F_NODAD;
  nlmsghdr& message = request.header();
  netlink::put_address(message, IFA_LOCAL, address);
  netlink::put_address(message, IFA_ADDRESS, address);
  return socket_.change(message, "add address " + address.to_string() + "/" + std::to_string(prefix_length), link);
}

Result<std::vector<IpAddress>> own_addresses() {
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  const auto found = socket->addresses();
  if (!found) return std::unexpected(found.error());
  std::vector<IpAddress> addresses;
  addresses.reserve(found->size());
  for (const AddressInfo& info : *found) addresses.push_back(info.address);
  return addresses;
}

Result<std::uint32_t> smallest_different_mtu() {
  constexpr std::uint32_t kLeast = 1280;  // RFC 8200, 5
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  const auto links = socket->links();
  if (!links) return std::unexpected(links.error());
  std::uint32_t smallest = UINT32_MAX;
  std::uint32_t largest = 0;
  for (const LinkInfo& link : *links) {
    if (!link.up || link.master != 0 || link.name == "lo" || link.mtu < kLeast) continue;
    smallest = std::min(smallest, link.mtu);
    largest = std::max(largest, link.mtu);
  }
  return smallest < largest ? smallest : 0;
}

}  // namespace limpid
