// Builds the lab's namespaces, wires them, and gives them their addresses. Runs no program and leaves nothing on disk.
#include "lab/lab.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <string>
#include <utility>

#include "limpid/prefix.h"
#include "net/namespace.h"
#include "net/netlink.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

/// One end of a cable.
struct Port4And6 {
  std::string interface;
  IpAddress ipv4;
  IpAddress ipv6;
};

/// A cable between the router and another host.
struct Cable {
  Port4And6 router;
  Port4And6 host;
  unsigned ipv4_length;  ///< IPv6 networks have 64 bits always
};

/// A host under construction: the namespace, and a netlink socket that was opened in it.
struct Site {
  UniqueFd network_namespace;
  RouteSocket netlink;
};

IpAddress address(const std::string& text) {
  // The texts are those below: one that does not parse would show as 0.0.0.0 in every test.
  return IpAddress::parse(text).value_or(IpAddress());
}

Cable client_cable() {
  return {.router = {.interface = "lan", .ipv4 = address("192.0.2.1"), .ipv6 = address("2001:db8:1::1")},
          .host = {.interface = "eth0", .ipv4 = address("192.0.2.2"), .ipv6 = address("2001:db8:1::2")},
          .ipv4_length = 24};
}

/// `number` counts from 1.
Cable server_cable(unsigned number) {
  const std::string ipv4_start = number == 1 ? "198.51.100." : "203.0.113.";
  const unsigned ipv4_base = number == 1 ? 0 : 16 * number;
  const std::string ipv6_start = fmt::format("2001:db8:{:x}::", number + 1);
  return {.router = {.interface = number == 1 ? "wan" : fmt::format("wan{}", number),
                     .ipv4 = address(fmt::format("{}{}", ipv4_start, ipv4_base + 1)),
                     .ipv6 = address(ipv6_start + "1")},
          .host = {.interface = "eth0",
                   .ipv4 = address(fmt::format("{}{}", ipv4_start, ipv4_base + 2)),
                   .ipv6 = address(ipv6_start + "2")},
          .ipv4_length = number == 1 ? 24U : 28U};
}

/// A new namespace takes IPv4 settings over from the host (devconf_inherit_init_net in the kernel's
/// networking/ip-sysctl.rst), and every interface takes them over from `default` when it is made: hence before the
/// cables.
Status apply_settings(bool forwards) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kSettings{{
      {"net.ipv4.conf.all.rp_filter", "0"},
      {"net.ipv4.conf.default.rp_filter", "0"},
      {"net.ipv4.conf.all.src_valid_mark", "0"},
      {"net.ipv4.conf.default.src_valid_mark", "0"},
      {"net.ipv6.conf.all.disable_ipv6", "0"},
      {"net.ipv6.conf.default.disable_ipv6", "0"},
      // Link-local addresses are made by the kernel, which checks them for duplicates for a second or more.
      {"net.ipv6.conf.default.accept_dad", "0"},
      {"net.ipv6.conf.default.router_solicitations", "0"},
  }};
  for (const auto& [key, value] : kSettings) {
    if (auto written = write_sysctl(key, value); !written) return written;
  }
  for (const auto* key : {"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"}) {
    if (auto written = write_sysctl(key, forwards ? "1" : "0"); !written) return written;
  }
  return {};
}

Result<Site> make_site(bool forwards) {
  if (auto entered = enter_new_network_namespace(); !entered) return std::unexpected(entered.error());
  if (auto applied = apply_settings(forwards); !applied) return std::unexpected(applied.error());
  auto network_namespace = current_network_namespace();
  if (!network_namespace) return std::unexpected(network_namespace.error());
  auto netlink = RouteSocket::open();
  if (!netlink) return std::unexpected(netlink.error());
  return Site{*std::move(network_namespace), *std::move(netlink)};
}

Status configure(RouteSocket& netlink, const Port4And6& port, unsigned ipv4_length) {
  if (auto added = netlink.add_address(port.interface, port.ipv4, ipv4_length); !added) return added;
  return netlink.add_address(port.interface, port.ipv6, 64);
}

Status add_default_route(RouteSocket& netlink, const IpAddress& gateway, const std::string& device) {
  static constexpr std::uint32_t kMainTable = 254;
  static constexpr std::uint8_t kStatic = 4;  // RTPROT_STATIC: by an administrator
  RouteSpec route;
  route.destination = Prefix::everything(gateway.family());
  route.table = {kMainTable};
  route.device = device;
  route.gateway = gateway;
  route.protocol = kStatic;
  return netlink.add_route(route);
}

/// Looks every millisecond whether `is_ready()`, for at most five seconds.
template <class Condition>
Status await(const std::string& interface, std::string_view what, Condition is_ready) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (std::chrono::steady_clock::now() < deadline) {
    if (is_ready()) return {};
    (void)::poll(nullptr, 0, 1);
  }
  return failure("wait for", interface, what);
}

/// The end that is switched on first gets its carrier later, from the other one, and sends nothing until the kernel's
/// link watch has noticed (linkwatch_do_dev() in net/core/link_watch.c, on a work queue): packets before that are
/// dropped silently.
Status await_carrier(RouteSocket& netlink, const std::string& interface) {
  return await(interface, "it does not become operational", [&netlink, &interface] {
    const auto links = netlink.links();
    return links && std::ranges::any_of(*links, [&interface](const LinkInfo& link) {
             return link.name == interface && link.operational;
           });
  });
}

/// An address without duplicate address detection is valid at once, and yet its solicited-node group is joined on a
/// work queue (addrconf_dad_begin() in net/ipv6/addrconf.c): until then nobody's neighbour solicitation is answered,
/// and the next one comes a second later.
Status await_neighbour_discovery(const Site& site, const Port4And6& port) {
  if (auto entered = enter_network_namespace(site.network_namespace.get()); !entered) return entered;
  const auto& bytes = port.ipv6.bytes();
  // A line of igmp6: index, interface, group, …; the group ends with the address's last 24 bits (RFC 4291, 2.7.1).
  const std::string group =
      fmt::format("ff0200000000000000000001ff{:02x}{:02x}{:02x}", bytes[13], bytes[14], bytes[15]);
  return await(port.interface, "its IPv6 address is not announced", [&port, &group] {
    std::ifstream groups("/proc/thread-self/net/igmp6");
    for (std::string index, interface, joined, rest;
         groups >> index >> interface >> joined && std::getline(groups, rest);) {
      if (interface == port.interface && joined == group) return true;
    }
    return false;
  });
}

Status connect(Site& router, Site& host, const Cable& cable) {
  if (auto added = router.netlink.add_veth(cable.router.interface, cable.host.interface, host.network_namespace.get());
      !added) {
    return added;
  }
  if (auto up = host.netlink.set_link_up(cable.host.interface); !up) return up;
  if (auto up = router.netlink.set_link_up(cable.router.interface); !up) return up;
  if (auto ready = await_carrier(host.netlink, cable.host.interface); !ready) return ready;
  if (auto done = configure(host.netlink, cable.host, cable.ipv4_length); !done) return done;
  if (auto done = configure(router.netlink, cable.router, cable.ipv4_length); !done) return done;
  if (auto ready = await_neighbour_discovery(host, cable.host); !ready) return ready;
  if (auto ready = await_neighbour_discovery(router, cable.router); !ready) return ready;
  if (auto done = add_default_route(host.netlink, cable.router.ipv4, cable.host.interface); !done) return done;
  return add_default_route(host.netlink, cable.router.ipv6, cable.host.interface);
}

LabHost finished(std::string name, Site& site, const Port4And6& port) {
  return {.name = std::move(name),
          .network_namespace = std::move(site.network_namespace),
          .ipv4 = port.ipv4,
          .ipv6 = port.ipv6};
}

Result<std::vector<LabHost>> build(unsigned servers) {
  auto client = make_site(false);
  if (!client) return std::unexpected(client.error());
  auto router = make_site(true);
  if (!router) return std::unexpected(router.error());

  std::vector<LabHost> hosts;
  const Cable to_client = client_cable();
  if (auto connected = connect(*router, *client, to_client); !connected) return std::unexpected(connected.error());
  hosts.push_back(finished("client", *client, to_client.host));
  std::vector<LabHost> server_hosts;
  for (unsigned number = 1; number <= servers; ++number) {
    auto server = make_site(false);
    if (!server) return std::unexpected(server.error());
    const Cable cable = server_cable(number);
    if (auto connected = connect(*router, *server, cable); !connected) return std::unexpected(connected.error());
    server_hosts.push_back(finished(number == 1 ? "server" : fmt::format("server{}", number), *server, cable.host));
  }
  hosts.push_back(finished("router", *router, to_client.router));
  for (auto& host : server_hosts) hosts.push_back(std::move(host));
  return hosts;
}

}  // namespace

Result<Lab> Lab::create(const LabOptions& options) {
  if (options.servers < 1 || options.servers > kMostLabServers) {
    return usage_error("lab", std::to_string(options.servers) + " servers", "there can be 1 to 8 of them");
  }
  if (!has_capability(CAP_SYS_ADMIN)) {
    if (auto rooted = become_root_in_user_namespace(); !rooted) return std::unexpected(rooted.error());
  }
  const auto home = current_network_namespace();
  if (!home) return std::unexpected(home.error());
  auto hosts = build(options.servers);
  // Also after a failure: the caller must not find itself inside half a lab.
  if (auto returned = enter_network_namespace(home->get()); !returned) return std::unexpected(returned.error());
  if (!hosts) return std::unexpected(hosts.error());
  Lab lab;
  lab.hosts_ = *std::move(hosts);
  return lab;
}

const LabHost* Lab::find(std::string_view name) const noexcept {
  for (const auto& host : hosts_) {
    if (host.name == name) return &host;
  }
  return nullptr;
}

}  // namespace limpid
