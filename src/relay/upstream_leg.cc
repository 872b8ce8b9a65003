// TCP Fast Open is never used here: a client's bytes must not come before the handshake.
#include "relay/upstream_leg.h"

#include "limpid/transparent.h"

namespace limpid {

Result<TargetLeg> open_upstream_leg(const Upstream& upstream, const Dial& dial, const ClientSide& client,
                                    const TargetLegOptions& options, Counters& counters) {
  if (upstream.source) {
    auto fd = connect_transparent(dial.target, {.source = SocketAddress{.address = *upstream.source, .port = {}},
                                                .mark = options.bypass_mark | upstream.mark,
                                                .keepalive_idle = options.keepalive_idle,
                                                .smallest_mtu = options.smallest_mtu,
                                                .interface = upstream.interface});
    if (!fd) return std::unexpected(std::move(fd.error()));
    return TargetLeg{.fd = std::move(*fd), .source = SourceMode::none, .routed_otherwise = !upstream.interface.empty()};
  }
  TargetLegOptions own = options;
  own.fast_open = false;
  own.interface = upstream.interface;
  own.bypass_mark |= upstream.mark;
  return open_target_leg(dial, client, own, counters);
}

Dial dial_through(const Upstream& upstream, const UpstreamServer* server, const Dial& wanted,
                  const SocketAddress& client) noexcept {
  Dial dial = wanted;
  if (server != nullptr) dial.target = server->address;
  const bool differs = dial.target.family() != client.family();
  if (upstream.own_address || (server != nullptr && server->on_this_host)) {
    dial.source = SourceMode::none;
    dial.source_family_differs = false;
  } else if (dial.source != SourceMode::none && differs) {
    dial.source = SourceMode::none;
    dial.source_family_differs = true;
  }
  return dial;
}

}  // namespace limpid
