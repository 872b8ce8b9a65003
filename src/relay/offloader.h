// Offloader: takes flows of one worker out of it. Asks the two sockets where they stand, decides, hands the flow over, and watches the sockets
// until they have nothing to hear any more. Moves no bytes itself. One for each worker, on its thread.
//
// Theory of operation. The relay adds nothing to a flow's bytes, so its two connections differ by constants; with both sockets' sequence
// numbers in one reading, whoever forwards packets can translate them, and the sockets are not needed (docs/cut-through.md). The reading
// must be one moment's: nothing may lie in our own buffers, and what lies in the receive queues is counted as not read. What arrives between the
// reading and the hand-over is delivered by the sockets, later, and changes no constant.
// Right after connect that moment is there, nearly always. Later, in bulk, it has to be made: while a flow is *held*, neither end is told of more
// window than it knows of, so what lies in our sockets gets less until the other end has room for all that is left. A hold lasts a second
// of traffic at most, and there are three of them, because it costs throughput. Silence changes nothing but what acknowledgements still
// under way do; so attempts in silence become rarer, stop, do not count, and go on when bytes move.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "limpid/error.h"
#include "relay/flow.h"
#include "relay/flow_offload.h"
#include "relay/offload_decision.h"
#include "relay/offload_paths.h"

namespace limpid {

/// How far a flow that was handed over has got with its sockets.
enum class LeaveStep : std::uint8_t {
  busy,   ///< bytes to be moved: pump, and ask again
  waits,  ///< for acknowledgements: ask again in a while
  quiet,  ///< nothing; settled now, and to be closed a moment later
  lost,   ///< an end has gone, or the hand-over failed: close at once
};

class Offloader {
 public:
  /// `offload` outlives it. `local_ends`: whether clients or targets can be programs of this host.
  [[nodiscard]] static Result<std::unique_ptr<Offloader>> create(FlowOffload& offload, bool local_ends);

  /// Whether a connection that is being made has the addresses and ports of a flow that was handed over: then it cannot come about.
  [[nodiscard]] bool is_taken(int target_fd, const SocketAddress& target) const;
  /// Tries to hand the flow over. Sets `offload_id` on success; if not, it is to be tried again at `give_up_ms` at the earliest.
  [[nodiscard]] bool try_begin(Flow& flow);
  /// Whether try_begin() may be called at all, again or for the first time.
  [[nodiscard]] static bool may_try(const Flow& flow) noexcept { return flow.offload_attempts < kMostAttempts; }
  /// Whether to do so even if no byte moves.
  [[nodiscard]] static bool may_try_in_silence(const Flow& flow) noexcept {
    return may_try(flow) && flow.silent_attempts < kSilentAttempts;
  }
  /// It is not to be tried: the flow stays, for this reason.
  void keep(Flow& flow, StayReason reason);
  /// Of a flow that was handed over, and is over here.
  void leave_tracking(const Flow& flow);

  /// Of a flow that was handed over.
  [[nodiscard]] LeaveStep step(Flow& flow);
  /// Resets both ends of it, in the name of each other, unless it is settled: then its record is not the caller's, and false is returned.
  [[nodiscard]] bool end(Flow& flow);
  /// Closes its sockets without a word.
  static void close_silently(Flow& flow);

  /// By anybody, at any time.
  [[nodiscard]] std::uint64_t stayed(StayReason reason) const noexcept { return stayed_.of(reason); }

 private:
  static constexpr std::uint8_t kAttemptsOfHold = 60;
  static constexpr std::uint8_t kMostAttempts = 3 * kAttemptsOfHold;
  static constexpr std::uint8_t kSilentAttempts = 8;  ///< the first 16 ms after the one before, each twice as late: 2 s

  Offloader(FlowOffload& offload, OffloadPaths paths);
  [[nodiscard]] std::optional<StayReason> reason_for_good(const Flow& flow, const SocketAddress& source);
  [[nodiscard]] std::optional<StayReason> try_now(Flow& flow);
  void hold(Flow& flow, StayReason reason);
  [[nodiscard]] std::optional<StayReason> hand_over(Flow& flow, const LegFacts& client, const LegFacts& target,
                                                    const SocketAddress& source);

  FlowOffload& offload_;
  OffloadPaths paths_;
  StayCounts stayed_;
};

}  // namespace limpid
