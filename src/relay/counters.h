// What a worker counts. Each worker writes its own Counters; anybody may read them at any time without locks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "relay/histogram.h"

namespace limpid {

enum class Counter : std::uint8_t {
  flows_total,               ///< accepted connections, refused ones included
  flows_ended,               ///< of those, how many are over
  bytes_up,                  ///< client → target
  bytes_down,                ///< target → client
  refused_direct,            ///< came to our listener without having been intercepted
  refused_self,              ///< target was one of our own listeners
  refused_forbidden_target,  ///< loopback, link-local, multicast, … as original destination
  refused_limit,             ///< no file descriptors or flow slots left
  rejected,                  ///< flows that a rule rejects
  dropped,                   ///< flows that a rule drops
  sniffed,                   ///< flows whose decision waited for their first bytes
  sniffed_unknown,           ///< of those, how many were decided without knowing what they are
  names_asked,               ///< flows whose name had to be looked up (by-name)
  names_cached,              ///< flows whose name had been looked up before
  names_learnt,              ///< DNS answers out of which addresses got a name (dns-hint)
  names_hinted,              ///< flows that had a name by such an answer alone
  name_unresolved,           ///< flows refused because their name has no address, or none in time
  refused_proxy_header,      ///< no PROXY header, or a wrong one, where there had to be one
  connect_refused,           ///< target answered with RST
  connect_timeout,
  connect_unreachable,  ///< ICMP error or no route
  connect_failed,       ///< any other reason
  target_failovers,     ///< a target failed, and the next one was dialled
  upstream_failovers,   ///< an upstream failed a flow, and the next one was asked
  upstream_direct,      ///< flows that went without, because their group was down
  upstream_refused,     ///< flows that ended because of their upstream, as FlowEnd says
  upstream_failed,
  upstream_timeout,
  upstream_down,
  source_unavailable,    ///< the demanded source address and port could not be had
  source_port_kept,      ///< address+port, prefer-port: the target saw the client's port
  source_port_fallback,  ///< prefer-port: it was taken, another one was used
  source_fallback_none,  ///< the client's address cannot be used towards this target (other family, link-local)
  client_resets,
  target_resets,
  idle_timeouts,
  killed,         ///< flows and UDP sessions that the operator has ended
  spliced_bytes,  ///< of all bytes, how many never came to user space
  udp_sessions_total,
  udp_sessions_ended,
  udp_datagrams_up,        ///< client → target
  udp_datagrams_down,      ///< target → client
  udp_dropped,             ///< could not be sent on
  udp_filtered,            ///< answers from hosts that the filtering does not admit, or of another family
  udp_ttl_expired,         ///< had travelled far enough
  udp_evicted,             ///< sessions ended to make room
  udp_icmp_errors,         ///< ICMP errors passed on to clients
  cut_through,             ///< flows that left us while they lived
  udp_cut_through,         ///< exchanges of UDP sessions that are forwarded past us
  cut_through_bytes_up,    ///< client → target, of those that are over: all of their bytes
  cut_through_bytes_down,  ///< target → client
  access_log_dropped,  ///< access log records that could not be written, or not fast enough; the last one (kCounterCount)
};

inline constexpr std::size_t kCounterCount = static_cast<std::size_t>(Counter::access_log_dropped) + 1;

/// The name in logs and metrics: the enumerator's.
[[nodiscard]] std::string_view to_string(Counter counter) noexcept;

class Counters {
 public:
  /// By the owning worker only: a plain load and store, because nobody else writes.
  void add(Counter counter, std::uint64_t amount = 1) noexcept {
    auto& value = values_[static_cast<std::size_t>(counter)];
    value.store(value.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get(Counter counter) const noexcept {
    return values_[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
  }

  DurationHistogram connect_time;      ///< of target legs: until the connection is made
  DurationHistogram flow_duration;     ///< of connections that were relayed, when they are over
  DurationHistogram session_duration;  ///< of UDP sessions

 private:
  std::array<std::atomic<std::uint64_t>, kCounterCount> values_{};
};

}  // namespace limpid
