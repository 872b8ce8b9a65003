// Multicast notifications of nfnetlink and rtnetlink. Reads only; never answers.
#include "net/change_watch.h"

#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <utility>

#include "net/netlink_message.h"

namespace limpid {
namespace {

constexpr std::size_t kReceiveBytes = 64UL * 1024;

Result<UniqueFd> subscribe(int protocol, std::initializer_list<unsigned> groups) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!fd.valid()) return system_error(errno, "open", "netlink socket");
  sockaddr_nl own{};
  own.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
    return system_error(errno, "bind", "netlink socket");
  }
  for (const unsigned group : groups) {
    if (setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
      return system_error(errno, "hear of", "changes of rules");
    }
  }
  return fd;
}

/// Every message about a table, chain, rule or set has the table's name as its first attribute: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE,
/// NFTA_RULE_TABLE, … are all 1.
bool is_about_table(const nlmsghdr& message, const std::vector<std::string>& tables) {
  if (NFNL_SUBSYS_ID(message.nlmsg_type) != NFNL_SUBSYS_NFTABLES) return false;
  const netlink::Attributes<NFTA_TABLE_NAME> attributes(message, sizeof(nfgenmsg));
  return std::ranges::find(tables, attributes.text(NFTA_TABLE_NAME)) != tables.end();
}

bool is_about_routing(const nlmsghdr& message, TableId table) {
  switch (message.nlmsg_type) {
    case RTM_NEWRULE:
    case RTM_DELRULE:
    case RTM_NEWLINK:
    case RTM_DELLINK:
    case RTM_NEWADDR:
    case RTM_NEWNETCONF: return true;  // forwarding, among other sysctls of interfaces
    case RTM_NEWROUTE:
    case RTM_DELROUTE: return netlink::Attributes<RTA_TABLE>(message, sizeof(rtmsg)).u32(RTA_TABLE) == table.value;
    default: return false;
  }
}

template <class Concerns>
bool take_from(int fd, Concerns concerns) {
  alignas(nlmsghdr) std::array<std::byte, kReceiveBytes> buffer{};
  bool concerned = false;
  for (;;) {
    const ssize_t length = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == ENOBUFS) {
      concerned = true;  // the kernel had more to say than the socket could hold
      continue;
    }
    if (length <= 0) return concerned;
    if (length > static_cast<ssize_t>(buffer.size())) {
      concerned = true;
      continue;
    }
    int left = static_cast<int>(length);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(message, left);
         message = mnl_nlmsg_next(message, &left)) {
      concerned = concerned || concerns(*message);
    }
  }
}

}  // namespace

Result<ChangeWatch> ChangeWatch::open(std::vector<std::string> nft_tables, TableId route_table, bool and_links) {
  auto firewall = subscribe(NETLINK_NETFILTER, {NFNLGRP_NFTABLES});
  if (!firewall) return std::unexpected(firewall.error());
  auto routing = subscribe(NETLINK_ROUTE, {RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
                                           RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF});
  if (!routing) return std::unexpected(routing.error());
  if (and_links) {
    for (const unsigned group : {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR}) {
      if (setsockopt(routing->get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0)
        return system_error(errno, "hear of", "changes of interfaces");
    }
  }
  return ChangeWatch(std::move(*firewall), std::move(*routing), std::move(nft_tables), route_table);
}

ChangeWatch::ChangeWatch(UniqueFd firewall, UniqueFd routing, std::vector<std::string> nft_tables, TableId route_table)
    : firewall_(std::move(firewall)),
      routing_(std::move(routing)),
      nft_tables_(std::move(nft_tables)),
      route_table_(route_table) {}

bool ChangeWatch::take() {
  const bool firewall = take_from(firewall_.get(), [&](const nlmsghdr& m) { return is_about_table(m, nft_tables_); });
  const bool routing = take_from(routing_.get(), [&](const nlmsghdr& m) { return is_about_routing(m, route_table_); });
  return firewall || routing;
}

Result<AddressWatch> AddressWatch::open() {
  auto changes = subscribe(NETLINK_ROUTE, {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR});
  if (!changes) return std::unexpected(changes.error());
  return AddressWatch(std::move(*changes));
}

bool AddressWatch::take() {
  return take_from(changes_.get(), [](const nlmsghdr& message) {
    return message.nlmsg_type == RTM_NEWADDR || message.nlmsg_type == RTM_DELADDR;
  });
}

}  // namespace limpid
