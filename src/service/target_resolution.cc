// A target that is one of our own listeners would be a circle in which every connection opens the next.
#include "service/target_resolution.h"

#include <fmt/format.h>

#include <algorithm>

#include "net/resolve.h"

namespace limpid {
namespace {

bool is_on_this_host(const IpAddress& address, const OwnAddresses& own) {
  return address.is_loopback() || address.is_unspecified() || std::ranges::find(own.host, address) != own.host.end();
}

}  // namespace

std::string TargetName::to_string() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port.value)
                                             : fmt::format("[{}]:{}", host, port.value);
}

bool TargetName::is_address() const {
  return IpAddress::parse(host).has_value();
}

Result<std::vector<SocketAddress>> resolve_name(const TargetName& name) {
  auto addresses = resolve_host(name.host, std::nullopt, /*numeric=*/false);
  if (!addresses) return addresses;
  if (addresses->size() > kMostAddresses) addresses->resize(kMostAddresses);
  for (auto& address : *addresses) address.port = name.port;
  return addresses;
}

bool reaches_ourselves(const SocketAddress& target, const OwnAddresses& own) {
  // 0.0.0.0 and :: as a target mean this host (kernel: ip_route_output_key, tcp_v6_connect).
  const auto address = target.address.is_unspecified() ? IpAddress::loopback(target.family()) : target.address;
  return std::ranges::any_of(own.listeners, [&](const SocketAddress& listener) {
    if (listener.port != target.port || listener.family() != target.family()) return false;
    if (listener.address.is_unspecified()) return is_on_this_host(address, own);
    return listener.address == address;
  });
}

TargetSelection select_targets(std::span<const std::vector<SocketAddress>> resolved, const OwnAddresses& own) {
  TargetSelection selection;
  for (const auto& addresses : resolved) {
    std::vector<Target> group;
    for (const auto& address : addresses) {
      if (reaches_ourselves(address, own)) {
        selection.ourselves.push_back(address);
      } else {
        group.push_back({.address = address, .on_this_host = is_on_this_host(address.address, own)});
      }
    }
    if (!group.empty()) selection.groups.push_back(std::move(group));
  }
  return selection;
}

}  // namespace limpid
