// What keeps a flow or session in the relay because of the paths of its two legs: who the ends are, and what others do to their packets. And how often each
// reason kept one. Asks the kernel (routing, connection tracking); one for each worker, on its thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/conntrack.h"
#include "net/netlink.h"
#include "relay/offload_decision.h"

namespace limpid {

/// The addresses of both legs: client to original destination, source to target.
struct LegPaths {
  const SocketAddress& client;
  const SocketAddress& original_destination;
  const SocketAddress& source;
  const SocketAddress& target;
};

class OffloadPaths {
 public:
  /// `local_ends`: whether clients or targets can be programs of this host.
  [[nodiscard]] static Result<OffloadPaths> open(bool local_ends);

  /// What addresses tell comes first, without asking the kernel.
  [[nodiscard]] std::optional<StayReason> reason_to_stay(Transport transport, const LegPaths& paths);
  /// nullptr: this kernel tracks no connections.
  [[nodiscard]] TrackedConnections* tracked() noexcept { return tracked_ ? &*tracked_ : nullptr; }

 private:
  OffloadPaths() = default;
  [[nodiscard]] std::optional<StayReason> reason_in_tracking(Transport transport, const LegPaths& paths);

  std::optional<TrackedConnections> tracked_;
  std::optional<RouteSocket> routes_;  ///< empty: no end can be local
};

/// Written by one worker, read by anybody at any time.
class StayCounts {
 public:
  void add(StayReason reason) noexcept {
    auto& count = counts_.at(static_cast<std::size_t>(reason));
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t of(StayReason reason) const noexcept {
    return counts_.at(static_cast<std::size_t>(reason)).load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kStayReasonCount> counts_{};
};

}  // namespace limpid
