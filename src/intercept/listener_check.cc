// Finds the socket that the kernel would choose, as inet_lookup_listener() and udp4_lib_lookup2() do: the one that is bound most
// closely wins, and of several alike (SO_REUSEPORT) any may. nft_tproxy takes what it is given only if it is transparent.
#include "intercept/listener_check.h"

#include <algorithm>

namespace limpid {
namespace {

/// How closely a socket that hears loopback is bound: to the very address, to any address of the family, to any of both.
int closeness(const ServerSocket& socket, Family family) {
  if (!socket.local.address.is_unspecified()) return 2;
  return socket.local.family() == family ? 1 : 0;
}

bool is_of(const ServerSocket& socket, Family family) {
  return socket.local.address.unmapped().family() == family ||
         (socket.local.address.is_unspecified() && socket.hears_loopback(family));
}

/// TPROXY looks sockets up as for the interface at which the packet has arrived (nf_tproxy_get_sock_v4(): in->ifindex).
bool hears_scope(const ServerSocket& socket, const Scope& scope) {
  if (socket.device.empty()) return true;
  const bool forwarded =
      !scope.forwarded ||
      (scope.from_prefixes.empty() && !scope.from_interfaces.empty() &&
       std::ranges::all_of(scope.from_interfaces, [&](const std::string& name) { return name == socket.device; }));
  return forwarded && (!scope.local || socket.device == "lo");
}

ListenerState judge(const Scope& scope, Transport transport, Family family, std::span<const ServerSocket> sockets) {
  ListenerState state{.transport = transport,
                      .family = family,
                      .readiness = Readiness::absent,
                      .bound = {},
                      .device = {},
                      .known = true};
  int closest = -1;
  for (const ServerSocket& socket : sockets) {
    if (socket.transport != transport || socket.connected || !is_of(socket, family)) continue;
    if (!socket.hears_loopback(family) || !hears_scope(socket, scope)) {
      if (closest < 0) {
        state.readiness = Readiness::elsewhere;
        state.bound = socket.local;
        state.device = socket.device;
      }
      continue;
    }
    const int close = closeness(socket, family);
    const bool opaque = socket.transparent == false;
    if (close < closest || (close == closest && !opaque)) continue;
    closest = close;
    state.known = socket.transparent.has_value();
    state.readiness = opaque ? Readiness::opaque : Readiness::ready;
    state.bound = socket.local;
    state.device = socket.device;
  }
  return state;
}

}  // namespace

std::vector<ListenerState> judge_listeners(const Scope& scope, std::span<const ServerSocket> sockets) {
  std::vector<ListenerState> states;
  for (const Transport transport : {Transport::tcp, Transport::udp}) {
    if ((transport == Transport::tcp ? scope.tcp : scope.udp).empty()) continue;
    if (scope.ipv4) states.push_back(judge(scope, transport, Family::ipv4, sockets));
    if (scope.ipv6) states.push_back(judge(scope, transport, Family::ipv6, sockets));
  }
  return states;
}

Result<std::vector<ListenerState>> find_listeners(const Scope& scope, Port port) {
  std::vector<ServerSocket> sockets;
  for (const Transport transport : {Transport::tcp, Transport::udp}) {
    if ((transport == Transport::tcp ? scope.tcp : scope.udp).empty()) continue;
    const auto found = server_sockets(transport, port);
    if (!found) return std::unexpected(found.error());
    sockets.insert(sockets.end(), found->begin(), found->end());
  }
  return judge_listeners(scope, sockets);
}

}  // namespace limpid
