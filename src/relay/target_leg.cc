// The source modes, from the most to the least faithful, and their fallbacks.
#include "relay/target_leg.h"

#include <cerrno>

#include "limpid/transparent.h"

namespace limpid {
namespace {

Result<TargetLeg> dial_from(const SocketAddress& target, std::optional<SocketAddress> source, SourceMode seen,
                            const TargetLegOptions& options) {
  auto fd = connect_transparent(
      target, {.source = source, .mark = options.bypass_mark, .keepalive_idle = options.keepalive_idle});
  if (!fd) return std::unexpected(std::move(fd.error()));
  return TargetLeg{.fd = std::move(*fd), .source = seen};
}

}  // namespace

Result<TargetLeg> open_target_leg(const Dial& dial, const SocketAddress& client, const TargetLegOptions& options,
                                  Counters& counters) {
  const SocketAddress any_port{.address = client.address, .port = {}, .scope_id = client.scope_id};
  SourceMode mode = dial.source;
  // A link-local address means nothing beyond its own link, so no target elsewhere could answer it.
  if (mode != SourceMode::none && client.address.is_link_local()) {
    mode = SourceMode::none;
    counters.add(Counter::source_fallback_none);
  } else if (dial.source_family_differs) {
    counters.add(Counter::source_fallback_none);
  }
  switch (mode) {
    case SourceMode::none: return dial_from(dial.target, std::nullopt, SourceMode::none, options);
    case SourceMode::address: return dial_from(dial.target, any_port, SourceMode::address, options);
    case SourceMode::address_and_port:
    case SourceMode::prefer_port: break;
  }
  auto leg = dial_from(dial.target, client, SourceMode::address_and_port, options);
  // A port below 1024 without CAP_NET_BIND_SERVICE cannot be had either.
  if (!leg && leg.error().code == EACCES && leg.error().operation == "bind") leg.error().code = EADDRNOTAVAIL;
  if (leg) {
    counters.add(Counter::source_port_kept);
    return leg;
  }
  // EADDRINUSE at bind, EADDRNOTAVAIL at connect: the port or its 4-tuple is taken, by another socket or one in
  // TIME_WAIT.
  const bool taken = leg.error().code == EADDRINUSE || leg.error().code == EADDRNOTAVAIL;
  if (mode == SourceMode::address_and_port || !taken) return leg;
  counters.add(Counter::source_port_fallback);
  return dial_from(dial.target, any_port, SourceMode::address, options);
}

}  // namespace limpid
