// From what an address tells to what the kernel is asked: two netlink exchanges for each leg at most.
#include "relay/offload_paths.h"

#include <utility>

namespace limpid {

Result<OffloadPaths> OffloadPaths::open(bool local_ends) {
  OffloadPaths paths;
  if (tracks_connections()) {
    auto opened = TrackedConnections::open();
    if (!opened) return std::unexpected(opened.error());
    paths.tracked_ = std::move(*opened);
  }
  if (local_ends) {
    auto opened = RouteSocket::open();
    if (!opened) return std::unexpected(opened.error());
    paths.routes_ = std::move(*opened);
  }
  return paths;
}

std::optional<StayReason> OffloadPaths::reason_to_stay(Transport transport, const LegPaths& paths) {
  const auto& [client, original_destination, source, target] = paths;
  if (client.family() != target.family()) return StayReason::families_differ;
  for (const auto* end : {&client, &target, &original_destination}) {
    if (end->address.is_link_local()) return StayReason::link_local;
  }
  if (client.address.is_loopback() || target.address.is_loopback()) return StayReason::local_end;
  if (target.address.is_multicast() || target.address.is_broadcast()) return StayReason::many_receivers;
  for (const auto* end : {&client, &target}) {
    if (!routes_) break;
    const auto local = routes_->is_local(end->address);
    if (!local || *local) return StayReason::local_end;
  }
  return tracked_ ? reason_in_tracking(transport, paths) : std::nullopt;
}

std::optional<StayReason> OffloadPaths::reason_in_tracking(Transport transport, const LegPaths& paths) {
  const auto client_leg = tracked_->is_translated(transport, paths.original_destination, paths.client);
  const auto target_leg = tracked_->is_translated(transport, paths.source, paths.target);
  if (!client_leg || !target_leg) return StayReason::untold_translation;
  if (*client_leg || *target_leg) return StayReason::translated;
  return std::nullopt;
}

}  // namespace limpid
