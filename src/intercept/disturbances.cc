// See disturbances.h: br_netfilter on bridges, and strict reverse path filtering where there are several ways out.
#include "intercept/disturbances.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "net/sysctl.h"

namespace limpid {
namespace {

constexpr std::uint32_t kMainTable = 254;

}  // namespace

std::string Disturbance::message() const {
  std::string command = "sysctl -w";
  for (const auto& [key, value] : sysctls) command += fmt::format(" {}={}", key, value);
  return fmt::format("{} ({}{}{})", what, command, caution.empty() ? "" : ", ", caution);
}

std::string sysctl_name(std::string_view interface) {
  std::string name(interface);
  std::ranges::replace(name, '.', '/');
  return name;
}

std::vector<Disturbance> find_bridge_netfilter(const std::vector<LinkInfo>& links) {
  std::vector<Disturbance> found;
  for (const std::string key : {"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"}) {
    if (read_sysctl(key).value_or("0") == "0") continue;
    for (const LinkInfo& link : links) {
      if (link.kind != "bridge") continue;
      // br_nf_pre_routing() runs our chain for a bridged frame; skb_orphan() in ip_rcv() then undoes tproxy's choice.
      found.push_back(
          {.interface = link.name,
           .what = fmt::format("{}=1 and {} is a bridge: connections that arrive through it cannot be intercepted", key,
                               link.name),
           .sysctls = {{key, "0"}},
           .caution = "unless a firewall between its ports depends on it"});
    }
  }
  return found;
}

std::vector<Disturbance> find_strict_filtering(const std::vector<RouteSpec>& routes) {
  // Strict filtering drops what arrives on another interface than the one that leads back. That needs several ways out.
  std::set<std::string> ways_out;
  for (const RouteSpec& route : routes) {
    const bool is_default = route.destination == Prefix::everything(Family::ipv4) && !route.local;
    if (is_default && route.table.value == kMainTable && !route.device.empty()) ways_out.insert(route.device);
  }
  std::vector<Disturbance> found;
  if (ways_out.size() < 2) return found;
  for (const std::string& device : ways_out) {
    const std::string own_key = fmt::format("net.ipv4.conf.{}.rp_filter", sysctl_name(device));
    // The larger of the two holds (Documentation/networking/ip-sysctl.rst).
    const std::string effective =
        std::max(read_sysctl("net.ipv4.conf.all.rp_filter").value_or("0"), read_sysctl(own_key).value_or("0"));
    if (effective != "1") continue;
    found.push_back(
        {.interface = device,
         .what = fmt::format("rp_filter is strict on {}, one of several default routes: replies that arrive "
                             "there for connections that left elsewhere are dropped silently",
                             device),
         .sysctls = {{"net.ipv4.conf.all.rp_filter", "2"}, {own_key, "2"}},
         .caution = ""});
  }
  return found;
}

}  // namespace limpid
