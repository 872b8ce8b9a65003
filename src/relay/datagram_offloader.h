// DatagramOffloader: hands exchanges of UDP sessions over to whoever forwards them without sockets (cut-through), or says why not. Knows no session
// table and no socket; one for each worker, on its thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "limpid/error.h"
#include "relay/flow_offload.h"
#include "relay/offload_decision.h"
#include "relay/offload_paths.h"

namespace limpid {

/// What a worker's UDP sessions need to leave it. Everything outlives the worker.
struct UdpHandOver {
  FlowOffload* offload = nullptr;                  ///< nullptr: every session stays
  bool local_ends = true;                          ///< clients or targets may be programs of this host
  std::atomic<std::size_t>* open = nullptr;        ///< how many that have no socket are not over
  const std::atomic<bool>* keeps_flows = nullptr;  ///< as in SharedRelayState
};

enum class SessionOutcome : std::uint8_t {
  begun,
  there_already,  ///< it was handed over before, by this process or one that was killed
  stays,          ///< for good; the reason has been counted
};

class DatagramOffloader {
 public:
  [[nodiscard]] static Result<std::unique_ptr<DatagramOffloader>> create(const UdpHandOver& way);

  [[nodiscard]] SessionOutcome begin(const OffloadedSession& session);
  /// One stays that was not even tried.
  void count_stay(StayReason reason) noexcept;
  /// Whether datagrams that arrive so are forwarded past us.
  [[nodiscard]] bool is_taken(const SocketAddress& from, const SocketAddress& to) {
    return offload_.is_taken(Protocol::udp, from, to);
  }
  [[nodiscard]] FlowOffload& offload() noexcept { return offload_; }
  /// Whether nothing is handed over now.
  [[nodiscard]] bool pauses() const noexcept { return keeps_flows_.load(std::memory_order_relaxed); }
  /// One more that nobody has a socket for.
  void count_open() noexcept { open_.fetch_add(1, std::memory_order_relaxed); }

  /// By anybody, at any time.
  [[nodiscard]] std::uint64_t stayed(StayReason reason) const noexcept { return stayed_.of(reason); }

 private:
  DatagramOffloader(const UdpHandOver& way, OffloadPaths paths);

  FlowOffload& offload_;
  std::atomic<std::size_t>& open_;
  const std::atomic<bool>& keeps_flows_;
  OffloadPaths paths_;
  StayCounts stayed_;
};

}  // namespace limpid
