// Opens the leg to an upstream: the target leg, but dialled as the upstream wants it.
#pragma once

#include "relay/target_leg.h"
#include "upstream/group.h"

namespace limpid {

/// As open_target_leg(), with the upstream's interface, source and mark. To a proxy, we are a client with the host's own address.
[[nodiscard]] Result<TargetLeg> open_upstream_leg(const Upstream& upstream, const Dial& dial, const ClientSide& client,
                                                  const TargetLegOptions& options, Counters& counters);

/// Where a flow is to be dialled that goes to `wanted` through this upstream.
/// `server`: where the upstream is; nullptr: the flow's own destination.
[[nodiscard]] Dial dial_through(const Upstream& upstream, const UpstreamServer* server, const Dial& wanted,
                                const SocketAddress& client) noexcept;

}  // namespace limpid
