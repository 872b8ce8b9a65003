// Routes in rtnetlink, of every table: what `ip route show table all` shows, and what Limpid adds and deletes.
#include <linux/rtnetlink.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <string>

#include "net/netlink.h"
#include "net/netlink_message.h"

namespace limpid {
namespace {

using netlink::Attributes;
using netlink::Request;

std::optional<IpAddress> gateway_of(const Attributes<RTA_VIA>& attributes, Family family) {
  if (auto gateway = netlink::get_address(attributes[RTA_GATEWAY], family)) return gateway;
  // RTA_VIA: an IPv4 route through an IPv6 neighbour (RFC 5549). struct rtvia is a family and the address behind it.
  const nlattr* via = attributes[RTA_VIA];
  if (via == nullptr || mnl_attr_get_payload_len(via) < sizeof(rtvia) + 16) return std::nullopt;
  rtvia header{};
  std::memcpy(&header, mnl_attr_get_payload(via), sizeof header);
  if (header.rtvia_family != AF_INET6) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), static_cast<const std::byte*>(mnl_attr_get_payload(via)) + sizeof header, bytes.size());
  return IpAddress::from_bytes(Family::ipv6, bytes);
}

std::optional<RouteSpec> read_route(const nlmsghdr& message, const rtmsg& header, Family family,
                                    const std::map<std::uint32_t, std::string>& link_names) {
  const Attributes<RTA_VIA> attributes(message, sizeof header);
  RouteSpec route;
  const auto network = netlink::get_address(attributes[RTA_DST], family).value_or(IpAddress::any(family));
  auto destination = Prefix::parse(network.to_string() + "/" + std::to_string(header.rtm_dst_len));
  if (!destination) return std::nullopt;
  route.destination = *destination;
  route.table.value = attributes.u32(RTA_TABLE).value_or(header.rtm_table);
  route.local = header.rtm_type == RTN_LOCAL;
  if (const auto index = attributes.u32(RTA_OIF)) {
    const auto name = link_names.find(*index);
    route.device = name != link_names.end() ? name->second : "";
  }
  route.gateway = gateway_of(attributes, family);
  route.protocol = header.rtm_protocol;
  return route;
}

std::string name_of(const RouteSpec& route) {
  return "route " + route.destination.to_string() + " in table " + std::to_string(route.table.value);
}

void write_route(Request& request, const RouteSpec& route, std::uint8_t scope, std::uint32_t device_index) {
  auto& header = request.extra_header<rtmsg>();
  header.rtm_family = netlink::to_native(route.destination.family());
  header.rtm_dst_len = static_cast<unsigned char>(route.destination.length());
  header.rtm_table = static_cast<unsigned char>(route.table.value < 256 ? route.table.value : RT_TABLE_COMPAT);
  header.rtm_protocol = route.protocol;
  header.rtm_scope = scope;
  header.rtm_type = route.local ? RTN_LOCAL : RTN_UNICAST;
  nlmsghdr& message = request.header();
  mnl_attr_put_u32(&message, RTA_TABLE, route.table.value);
  if (route.destination.length() > 0) netlink::put_address(message, RTA_DST, route.destination.network());
  if (device_index != 0) mnl_attr_put_u32(&message, RTA_OIF, device_index);
  if (route.gateway) netlink::put_address(message, RTA_GATEWAY, *route.gateway);
}

// As ip-route(8) chooses it: how far away the destination is.
std::uint8_t scope_of(const RouteSpec& route) noexcept {
  if (route.local) return RT_SCOPE_HOST;
  return route.gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
}

}  // namespace

Result<std::vector<RouteSpec>> RouteSocket::routes(Family family) {
  const auto found_links = links();
  if (!found_links) return std::unexpected(found_links.error());
  std::map<std::uint32_t, std::string> link_names;
  for (const auto& link : *found_links) link_names.emplace(static_cast<std::uint32_t>(link.index), link.name);

  Request request(RTM_GETROUTE, 0);
  request.extra_header<rtmsg>().rtm_family = netlink::to_native(family);
  std::vector<RouteSpec> found;
  auto outcome = socket_.dump(
      request.header(), "read " + std::string(to_string(family)) + " routes", [&found] { found.clear(); },
      [&found, &link_names, family](const nlmsghdr& message) {
        if (message.nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(&message) < sizeof(rtmsg)) return;
        const auto& header = *static_cast<const rtmsg*>(mnl_nlmsg_get_payload(&message));
        // Without IPv6 the kernel answers with every other family's routes (rtnl_dump_all() in net/core/rtnetlink.c).
        if (netlink::family_of(header.rtm_family) != family) return;
        // Cached exceptions (redirects, path MTU) are no configuration.
        if ((header.rtm_flags & RTM_F_CLONED) != 0) return;
        if (auto route = read_route(message, header, family, link_names)) found.push_back(*std::move(route));
      });
  if (!outcome) return std::unexpected(outcome.error());
  return found;
}

Status RouteSocket::add_route(const RouteSpec& route) {
  std::uint32_t device_index = 0;
  if (!route.device.empty()) {
    const auto index = link_index(route.device);
    if (!index) return std::unexpected(index.error());
    device_index = *index;
  }
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
  write_route(request, route, scope_of(route), device_index);
  return socket_.change(request.header(), "add", name_of(route));
}

Status RouteSocket::delete_route(const RouteSpec& route) {
  std::uint32_t device_index = 0;
  if (!route.device.empty()) {
    const auto index = link_index(route.device);
    if (!index) return std::unexpected(index.error());
    device_index = *index;
  }
  Request request(RTM_DELROUTE, 0);
  // RT_SCOPE_NOWHERE matches every scope in fib_table_delete(), net/ipv4/fib_trie.c.
  write_route(request, route, RT_SCOPE_NOWHERE, device_index);
  return socket_.change(request.header(), "delete", name_of(route));
}

}  // namespace limpid
