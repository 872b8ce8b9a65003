// `limpid trace`: follows packets of a flow that others send, each through all of netfilter. Changes nothing but a table of its own in
// nftables, which it takes away again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "explain/probe_table.h"
#include "explain/verdict.h"
#include "limpid/error.h"

namespace limpid {

struct TraceOptions {
  TraceSelection selection;
  std::uint64_t count = 0;  ///< this many packets are shown; 0: until it is stopped
  std::optional<std::chrono::milliseconds> timeout;
  bool drop_only = false;  ///< only those that were dropped or rejected are shown, and count
};

struct FollowedPacket {
  std::uint32_t id = 0;
  Walk walk;
  Verdict verdict;
};

struct TraceSummary {
  std::uint64_t shown = 0;
  std::uint64_t followed = 0;
  std::uint64_t losses = 0;  ///< times that the kernel had more to say than could be heard
};

/// Calls `ready` once packets are followed, and `each` for every packet that has come to its end, until it says no, the count is reached,
/// the time is up, or `stop` is readable. Needs CAP_NET_ADMIN.
[[nodiscard]] Result<TraceSummary> trace_packets(const TraceOptions& options, int stop,
                                                 const std::function<void()>& ready,
                                                 const std::function<bool(const FollowedPacket&)>& each);

}  // namespace limpid
