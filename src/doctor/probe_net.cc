// See probe_net.h. The order matters: a link is ready for IPv6 only once both of its ends are up and the kernel has noticed.
#include "doctor/probe_net.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

#include "doctor/bpf.h"
#include "doctor/probe_table.h"
#include "net/namespace.h"
#include "net/netlink.h"
#include "net/sysctl.h"

namespace limpid::doctor {
namespace {

constexpr std::uint32_t kMainTable = 254;
constexpr std::chrono::seconds kLinkPatience{10};

IpAddress address(const char* text) {
  return IpAddress::parse(text).value_or(IpAddress());
}

/// Both ends of a cable of the probe's.
struct Cable {
  std::string here;
  IpAddress here_ipv4;
  IpAddress here_ipv6;
  IpAddress there_ipv4;
  IpAddress there_ipv6;
};

Cable client_cable() {
  return {.here = std::string(kClientLink),
          .here_ipv4 = address("203.0.113.225"),
          .here_ipv6 = address("2001:db8:7676:c::1"),
          .there_ipv4 = probe_client(Family::ipv4),
          .there_ipv6 = probe_client(Family::ipv6)};
}
Cable target_cable() {
  return {.here = std::string(kTargetLink),
          .here_ipv4 = address("203.0.113.229"),
          .here_ipv6 = address("2001:db8:7676:5::1"),
          .there_ipv4 = probe_target(Family::ipv4),
          .there_ipv6 = probe_target(Family::ipv6)};
}

/// What a client of the probe is routed through; no IPv6 where that is not probed.
struct Gateways {
  IpAddress ipv4;
  std::optional<IpAddress> ipv6;
};

/// A namespace that ends with its descriptor; the calling thread is back home afterwards.
Result<UniqueFd> make_namespace(int home) {
  auto entered = enter_new_network_namespace();
  auto made = entered ? current_network_namespace() : Result<UniqueFd>(std::unexpected(entered.error()));
  if (entered) {
    // Nothing here waits for duplicate addresses.
    for (const char* key : {"net.ipv6.conf.default.accept_dad", "net.ipv6.conf.default.accept_ra"})
      std::ignore = write_sysctl(key, "0");
    std::ignore = write_sysctl("net.ipv6.conf.all.disable_ipv6", "0");
    std::ignore = write_sysctl("net.ipv6.conf.default.disable_ipv6", "0");
  }
  if (auto back = enter_network_namespace(home); !back) return std::unexpected(back.error());
  return made;
}

void quicken(const std::string& interface) {
  // A neighbour solicitation or ARP request that is sent too early is lost, and repeated after a second otherwise.
  std::ignore = write_sysctl(fmt::format("net.ipv4.neigh.{}.retrans_time_ms", interface), "50");
  std::ignore = write_sysctl(fmt::format("net.ipv6.conf.{}.disable_ipv6", interface), "0");
  std::ignore = write_sysctl(fmt::format("net.ipv6.conf.{}.accept_dad", interface), "0");
  std::ignore = write_sysctl(fmt::format("net.ipv6.neigh.{}.retrans_time_ms", interface), "50");
}

bool is_operational(RouteSocket& socket, const std::string& interface) {
  const auto links = socket.links();
  return links && std::ranges::any_of(*links, [&](const LinkInfo& l) { return l.name == interface && l.operational; });
}

/// The namespace of a probe that was just killed may still hold links of these names for a moment.
Status add_cable(RouteSocket& socket, const std::string& name, int there) {
  const auto deadline = std::chrono::steady_clock::now() + kLinkPatience;
  while (true) {
    auto added = socket.add_veth(name, "eth0", there);
    if (added || added.error().code != EEXIST || std::chrono::steady_clock::now() > deadline) return added;
    (void)::poll(nullptr, 0, 10);
  }
}

Status add_addresses(RouteSocket& socket, const std::string& interface, const IpAddress& ipv4, const IpAddress& ipv6,
                     bool with_ipv6) {
  if (auto added = socket.add_address(interface, ipv4, 30); !added) return added;
  if (!with_ipv6) return {};
  return socket.add_address(interface, ipv6, 64);
}

Status route_through(RouteSocket& socket, const IpAddress& gateway, bool off_link) {
  RouteSpec route;
  route.table = TableId{kMainTable};
  route.device = "eth0";
  if (off_link) {
    auto host = Prefix::parse(gateway.to_string());
    if (!host) return std::unexpected(host.error());
    route.destination = *host;
    if (auto added = socket.add_route(route); !added && added.error().code != EEXIST) return added;
  }
  route.destination = Prefix::everything(gateway.family());
  route.gateway = gateway;
  return socket.add_route(route);
}

const Interface* find_interface(const Facts& facts, const std::string& name) {
  const auto found = std::ranges::find_if(facts.interfaces, [&](const Interface& i) { return i.link.name == name; });
  return found == facts.interfaces.end() ? nullptr : &*found;
}

std::optional<IpAddress> address_of(const Facts& facts, int link, Family family) {
  for (const AddressInfo& info : facts.addresses) {
    if (info.link_index == link && info.address.family() == family && !info.address.is_link_local())
      return info.address;
  }
  return std::nullopt;
}

Status check_addresses(const Facts& facts) {
  for (const AddressInfo& info : facts.addresses) {
    for (const Cable& cable : {client_cable(), target_cable()}) {
      if (info.address == cable.here_ipv4 || info.address == cable.there_ipv4 || info.address == cable.here_ipv6) {
        return failure("build", "the probe's network",
                       fmt::format("{} is in use on this host", info.address.to_string()));
      }
    }
  }
  return {};
}

}  // namespace

IpAddress probe_client(Family family) {
  return address(family == Family::ipv4 ? "203.0.113.226" : "2001:db8:7676:c::2");
}
IpAddress probe_target(Family family) {
  return address(family == Family::ipv4 ? "203.0.113.230" : "2001:db8:7676:5::2");
}

std::vector<RouteSpec> probe_routes(const std::string& interface) {
  std::vector<RouteSpec> routes;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    RouteSpec route;
    route.destination = Prefix::parse(probe_client(family).to_string()).value_or(Prefix::everything(family));
    route.table = TableId{kMainTable};
    route.device = interface;
    route.protocol = kRouteProtocol;
    routes.push_back(route);
  }
  return routes;
}

namespace {

/// Gives both ends their addresses and waits until the link carries packets.
Status wire(RouteSocket& here, int home, int there, const Cable& cable, bool addresses_here, bool with_ipv6) {
  if (auto added = add_cable(here, cable.here, there); !added) return added;
  quicken(cable.here);
  if (auto up = here.set_link_up(cable.here); !up) return up;
  if (addresses_here) {
    if (auto added = add_addresses(here, cable.here, cable.here_ipv4, cable.here_ipv6, with_ipv6); !added) return added;
  }
  if (auto entered = enter_network_namespace(there); !entered) return entered;
  const auto configure = [&]() -> Status {
    quicken("eth0");
    auto socket = RouteSocket::open();
    if (!socket) return std::unexpected(socket.error());
    if (auto up = socket->set_link_up("eth0"); !up) return up;
    if (auto added = add_addresses(*socket, "eth0", cable.there_ipv4, cable.there_ipv6, with_ipv6); !added)
      return added;
    // The kernel's worker that switches a link on may come late on a busy machine; what is sent before is lost.
    const auto deadline = std::chrono::steady_clock::now() + kLinkPatience;
    while (!(is_operational(*socket, "eth0") && is_operational(here, cable.here))) {
      if (std::chrono::steady_clock::now() > deadline)
        return failure("build", "the probe's network", "its links do not come up");
      (void)::poll(nullptr, 0, 1);
    }
    return {};
  };
  auto configured = configure();
  if (auto back = enter_network_namespace(home); !back) return back;
  return configured;
}

Status route_client(int home, int client, const IpAddress& ipv4, const std::optional<IpAddress>& ipv6, bool off_link) {
  if (auto entered = enter_network_namespace(client); !entered) return entered;
  const auto add = [&]() -> Status {
    auto socket = RouteSocket::open();
    if (!socket) return std::unexpected(socket.error());
    if (auto routed = route_through(*socket, ipv4, off_link); !routed) return routed;
    if (!ipv6) return {};
    return route_through(*socket, *ipv6, off_link);
  };
  auto added = add();
  if (auto back = enter_network_namespace(home); !back) return back;
  return added;
}

/// Makes what the client sends arrive as if it came by `interface`, and what leaves there for the client come back to it. Returns the
/// addresses of `interface`, which are the client's gateways.
Result<Gateways> stand_in_front_of(const Interface* interface, RouteSocket& here, const Facts& facts,
                                   const Cable& client, bool with_ipv6, std::vector<UniqueFd>& programs) {
  const auto ipv4 = address_of(facts, interface->link.index, Family::ipv4);
  if (!ipv4) return failure("probe", interface->link.name, "it has no IPv4 address");
  const auto ipv6 = with_ipv6 ? address_of(facts, interface->link.index, Family::ipv6) : std::nullopt;
  const auto links = here.links();
  if (!links) return std::unexpected(links.error());
  const auto own = std::ranges::find(*links, client.here, &LinkInfo::name);
  if (own == links->end()) return failure("find", client.here, "it is gone");
  const auto probe_index = static_cast<std::uint32_t>(own->index);
  const auto real_index = static_cast<std::uint32_t>(interface->link.index);
  for (const RouteSpec& route : probe_routes(interface->link.name)) {
    if (route.destination.family() == Family::ipv6 && !ipv6) continue;
    if (auto added = here.add_route(route); !added) return std::unexpected(added.error());
  }
  auto arrivals = redirect_arrivals(probe_index, real_index);
  if (!arrivals) return std::unexpected(arrivals.error());
  auto answers = redirect_answers(real_index, probe_index, client.there_ipv4, client.there_ipv6);
  if (!answers) return std::unexpected(answers.error());
  programs.push_back(std::move(*arrivals));
  programs.push_back(std::move(*answers));
  return Gateways{.ipv4 = *ipv4, .ipv6 = ipv6};
}

}  // namespace

Result<ProbeNet> ProbeNet::build(const Facts& facts, const std::optional<std::string>& in_front_of, bool with_ipv6) {
  if (auto checked = check_addresses(facts); !checked) return std::unexpected(checked.error());
  const auto home = current_network_namespace();
  if (!home) return std::unexpected(home.error());
  auto here = RouteSocket::open();
  if (!here) return std::unexpected(here.error());
  ProbeNet net;
  for (UniqueFd* made : {&net.client_, &net.target_}) {
    auto network_namespace = make_namespace(home->get());
    if (!network_namespace) return std::unexpected(network_namespace.error());
    *made = std::move(*network_namespace);
  }
  const Cable client = client_cable();
  const Cable target = target_cable();
  if (auto wired = wire(*here, home->get(), net.client_.get(), client, !in_front_of, with_ipv6); !wired) {
    return std::unexpected(wired.error());
  }
  if (auto wired = wire(*here, home->get(), net.target_.get(), target, true, with_ipv6); !wired) {
    return std::unexpected(wired.error());
  }
  if (auto routed = route_client(home->get(), net.target_.get(), target.here_ipv4,
                                 with_ipv6 ? std::optional(target.here_ipv6) : std::nullopt, false);
      !routed) {
    return std::unexpected(routed.error());
  }
  Gateways gateways{.ipv4 = client.here_ipv4, .ipv6 = with_ipv6 ? std::optional(client.here_ipv6) : std::nullopt};
  if (in_front_of) {
    const Interface* interface = find_interface(facts, *in_front_of);
    if (interface == nullptr || !interface->link.up || !interface->link.ethernet) {
      return failure("probe", *in_front_of, "there is no such Ethernet interface, or it is down");
    }
    auto found = stand_in_front_of(interface, *here, facts, client, with_ipv6, net.programs_);
    if (!found) return std::unexpected(found.error());
    gateways = *found;
  }
  net.gateway_ipv4_ = gateways.ipv4;
  net.gateway_ipv6_ = gateways.ipv6.value_or(in_front_of ? IpAddress::any(Family::ipv6) : client.here_ipv6);
  if (auto routed = route_client(home->get(), net.client_.get(), gateways.ipv4, gateways.ipv6, in_front_of.has_value());
      !routed) {
    return std::unexpected(routed.error());
  }
  return net;
}

}  // namespace limpid::doctor
