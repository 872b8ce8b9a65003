// What is looked up once before packets are followed; called by explain.cc and live_trace.cc. Changes nothing.
#include "explain/walk.h"
#include "intercept/found.h"
#include "net/netlink.h"

namespace limpid {

Result<Surroundings> look_around(RouteSocket& routing) {
  Surroundings surroundings;
  const auto tables = find_nft_tables();
  if (!tables) return std::unexpected(tables.error());
  Found found{.nft = *tables, .xtables = {}, .ebpf = {}};
  // Others' rules can be explained without iptables' help.
  if (auto pieces = find_xtables()) {
    found.xtables = std::move(*pieces);
  } else {
    surroundings.troubles.push_back(pieces.error().message());
  }
  if (auto programs = find_ebpf()) {
    found.ebpf = std::move(*programs);
  } else {
    surroundings.troubles.push_back(programs.error().message());
  }
  surroundings.ebpf = found.ebpf;
  for (const Ownership& ownership : found.owners()) surroundings.instances.emplace(ownership.name, ownership);
  for (const auto& [name, owner] : surroundings.instances) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      if (is_iptables(owner.backend) && found.pieces(name, owner.backend, family).empty())
        surroundings.without_rules.emplace(name, family);
    }
  }
  const auto links = routing.links();
  if (!links) return std::unexpected(links.error());
  for (const LinkInfo& link : *links)
    surroundings.interfaces.emplace(static_cast<std::uint32_t>(link.index), link.name);
  return surroundings;
}

}  // namespace limpid
