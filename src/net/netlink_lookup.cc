// One question to the kernel's routing: RTM_GETROUTE, what `ip route get` asks.
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "net/netlink.h"
#include "net/netlink_message.h"

namespace limpid {
namespace {

using netlink::Attributes;
using netlink::Request;

RouteKind kind_of(unsigned native) noexcept {
  switch (native) {
    case RTN_UNICAST: return RouteKind::unicast;
    case RTN_LOCAL: return RouteKind::local;
    case RTN_BROADCAST:
    case RTN_ANYCAST:
    case RTN_MULTICAST: return RouteKind::many;
    default: return RouteKind::refused;
  }
}

}  // namespace

Result<RouteAnswer> RouteSocket::look_up(const RouteQuestion& question) {
  const Family family = question.destination.family();
  Request request(RTM_GETROUTE, 0);
  auto& header = request.extra_header<rtmsg>();
  header.rtm_family = netlink::to_native(family);
  header.rtm_dst_len = static_cast<unsigned char>(question.destination.bits());
  header.rtm_flags = RTM_F_LOOKUP_TABLE;
  if (question.source) header.rtm_src_len = static_cast<unsigned char>(question.source->bits());
  nlmsghdr& message = request.header();
  netlink::put_address(message, RTA_DST, question.destination);
  if (question.source) netlink::put_address(message, RTA_SRC, *question.source);
  if (question.mark != 0) mnl_attr_put_u32(&message, RTA_MARK, question.mark);
  if (question.user) mnl_attr_put_u32(&message, RTA_UID, *question.user);
  if (!question.input_interface.empty()) {
    const auto index = link_index(question.input_interface);
    if (!index) return std::unexpected(index.error());
    mnl_attr_put_u32(&message, RTA_IIF, *index);
  }
  const auto names = links();
  if (!names) return std::unexpected(names.error());
  const std::string object = question.destination.to_string();
  RouteAnswer answer;
  auto asked = socket_.ask(message, "look up the route to", object, [&](const nlmsghdr& found) {
    if (found.nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(&found) < sizeof(rtmsg)) return;
    const auto& route = *static_cast<const rtmsg*>(mnl_nlmsg_get_payload(&found));
    const Attributes<RTA_TABLE> attributes(found, sizeof route);
    answer.kind = kind_of(route.rtm_type);
    answer.table.value = attributes.u32(RTA_TABLE).value_or(route.rtm_table);
    answer.gateway = netlink::get_address(attributes[RTA_GATEWAY], family);
    const auto index = attributes.u32(RTA_OIF).value_or(0);
    for (const LinkInfo& link : *names) {
      if (static_cast<std::uint32_t>(link.index) == index) answer.device = link.name;
    }
    // IPv6 says so in the route (ip6_null_entry and its like); IPv4 refuses to answer.
    if (const auto error = attributes[RTA_CACHEINFO]; error != nullptr && answer.kind == RouteKind::refused) {
      if (mnl_attr_get_payload_len(error) >= sizeof(rta_cacheinfo)) {
        rta_cacheinfo info{};
        std::memcpy(&info, mnl_attr_get_payload(error), sizeof info);
        answer.error = -static_cast<int>(info.rta_error);
      }
    }
  });
  if (asked) return answer;
  const int code = asked.error().code;
  if (code == 0 || code == EPERM || code == ENODEV) return std::unexpected(asked.error());
  answer.kind = RouteKind::refused;
  answer.error = code;
  return answer;
}

Result<bool> RouteSocket::is_local(const IpAddress& destination) {
  if (destination.is_loopback()) return true;
  Request request(RTM_GETROUTE, 0);
  auto& header = request.extra_header<rtmsg>();
  header.rtm_family = netlink::to_native(destination.family());
  header.rtm_dst_len = static_cast<unsigned char>(destination.bits());
  netlink::put_address(request.header(), RTA_DST, destination);
  bool local = false;
  auto asked = socket_.ask(request.header(), "look up the route to", "", [&](const nlmsghdr& found) {
    if (found.nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(&found) < sizeof(rtmsg)) return;
    local = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(&found))->rtm_type == RTN_LOCAL;
  });
  if (!asked && asked.error().code == 0) return std::unexpected(asked.error());
  return local;  // without a route it is nobody's
}

}  // namespace limpid
