// Worker: one thread's event loop over its own listeners and flows. The walk of a connection stands in worker.cc from
// top to bottom.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "policy/decision.h"
#include "relay/acceptor.h"
#include "relay/counters.h"
#include "relay/flow_record.h"
#include "relay/flow_table.h"
#include "relay/offloader.h"
#include "relay/pump.h"
#include "relay/target_leg.h"
#include "relay/timer_wheel.h"
#include "relay/udp_engine.h"

namespace limpid {

struct RelayTimeouts {
  std::chrono::milliseconds connect{10'000};
  /// RFC 5382 REQ-5: no established connection is given up before 2 h 4 min of silence. 0: never.
  std::chrono::milliseconds idle{7'440'000};
  std::chrono::milliseconds half_closed{7'440'000};
};

/// What all workers share; it outlives them. Atomics only.
struct SharedRelayState {
  std::atomic<std::size_t> open_flows{0};  ///< that have sockets
  std::atomic<std::size_t> leaving{0};     ///< of those: that were handed over (cut-through)
  std::atomic<std::size_t> offloaded{0};   ///< that were handed over and are not over
  std::atomic<bool> reader_waits{false};   ///< whoever drains the records asks to be woken
  UniqueFd record_event;                   ///< eventfd that wakes it
  UniqueFd finished_event;                 ///< eventfd: a worker has ended
};

struct WorkerOptions {
  std::shared_ptr<const Policy> policy;
  TargetLegOptions target_leg;
  RelayTimeouts timeouts;
  std::size_t max_flows = 0;       ///< of all workers together
  std::size_t max_pipes = 0;       ///< of this one
  bool once = false;               ///< finishes with the first connection
  UdpOptions udp;                  ///< limits are of this one; meant only where there are UDP listeners
  FlowOffload* offload = nullptr;  ///< takes flows over, and outlives the worker; nullptr: every flow stays
  bool local_ends = true;          ///< clients or targets may be programs of this host
};

/// The sockets that one worker listens on: at most one of each kind for each address family.
struct WorkerListeners {
  std::vector<UniqueFd> tcp;
  std::vector<UniqueFd> udp;
};

class Worker {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Worker>> create(const WorkerOptions& options, SharedRelayState& shared,
                                                              WorkerListeners listeners);

  /// The thread's body: returns after drain() once no flow is left, or soon after stop().
  void run();

  // From any thread.
  void drain() noexcept;  ///< takes what waits in the accept queues, closes the listeners, lets flows finish
  void stop() noexcept;   ///< resets every flow that is left
  [[nodiscard]] bool finished() const noexcept { return finished_.load(std::memory_order_acquire); }
  /// How its latest flow ended. Meant only once it has finished.
  [[nodiscard]] std::optional<FlowEnd> last_end() const noexcept { return last_end_; }
  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
  [[nodiscard]] RecordRing& records() noexcept { return records_; }
  /// How many flows stayed for this reason; by anybody, at any time.
  [[nodiscard]] std::uint64_t stayed(StayReason reason) const noexcept {
    return offloader_ != nullptr ? offloader_->stayed(reason) : 0;
  }

 private:
  enum class Mode : std::uint8_t { serving, draining, stopping };
  enum class Closing : std::uint8_t { gracefully, with_reset };

  Worker(const WorkerOptions& options, SharedRelayState& shared, UniqueFd epoll, UniqueFd command, Acceptor acceptor);

  void dispatch(std::uint32_t events, std::uint64_t data);
  [[nodiscard]] Status start_udp(std::vector<UniqueFd> listeners);
  void run_udp();
  void obey_commands();
  void accept_connections(std::uint32_t listener);
  void refuse_connections(std::uint32_t listener);
  void begin_flow(Accepted accepted);
  void refuse(Accepted accepted, const SocketAddress& original_destination, FlowEnd end);
  [[nodiscard]] bool watch(const Flow& flow, FlowId id, bool target);
  [[nodiscard]] Result<TargetLeg> open_leg(const Dial& dial, const ClientSide& client);
  [[nodiscard]] Result<TargetLeg> call_first_possible(Dial& dial, const ClientSide& client, std::uint32_t& attempts);
  void try_next_target(Flow& flow, FlowId id, FlowEnd end);
  void finish_connecting(Flow& flow, FlowId id, bool client_spoke, std::uint32_t events);
  void relay_bytes(Flow& flow, FlowId id);
  void follow_reset(Flow& flow, FlowId id);
  void finish(Flow& flow, FlowId id);
  void linger(Flow& flow, FlowId id);
  void check_linger(Flow& flow, FlowId id);
  [[nodiscard]] bool try_leave(Flow& flow, FlowId id);
  void leave_step(Flow& flow, FlowId id);
  void end_leaving(Flow& flow, FlowId id, FlowEnd end);
  void forget(Flow& flow, FlowId id);
  void expire(std::uint32_t index);
  void end_flow(Flow& flow, FlowId id, FlowEnd end, Closing closing);
  void record_end(const Flow& flow, FlowEnd end) noexcept;
  void end_all_flows();
  void emit(const FlowRecord& record) noexcept;
  void schedule_idle(const Flow& flow, FlowId id);
  void give_others_a_turn();
  [[nodiscard]] int wait_ms() const noexcept;

  WorkerOptions options_;
  SharedRelayState& shared_;
  UniqueFd epoll_;
  UniqueFd command_;  ///< eventfd
  Acceptor acceptor_;
  std::atomic<Mode> requested_{Mode::serving};
  std::atomic<bool> finished_{false};
  Mode mode_ = Mode::serving;

  Counters counters_;
  RecordRing records_;
  FlowTable flows_;
  std::unique_ptr<Offloader> offloader_;  ///< nullptr: every flow stays
  std::unique_ptr<UdpEngine> udp_;        ///< nullptr without UDP listeners
  TimerWheel timers_;
  BufferPool buffers_;
  PipePool pipes_;
  std::vector<std::byte> shared_buffer_;
  PumpResources resources_;
  std::vector<FlowId> ready_;           ///< flows that spent their budget
  std::vector<std::uint32_t> expired_;  ///< scratch of the loop
  std::uint64_t now_ms_ = 0;            ///< monotonic, read once a round
  std::uint64_t resume_ms_ = 0;         ///< when paused listeners are asked again
  bool emitted_ = false;                ///< a record was pushed in this round
  std::optional<FlowEnd> last_end_;
};

}  // namespace limpid
