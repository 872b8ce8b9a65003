// Worker: one thread's event loop over its own listeners and flows. The walk of a connection stands in worker.cc from
// top to bottom.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "limpid/error.h"
#include "limpid/prefix.h"
#include "limpid/unique_fd.h"
#include "policy/decision.h"
#include "relay/acceptor.h"
#include "relay/counters.h"
#include "relay/decider.h"
#include "relay/dns_watch.h"
#include "relay/flow_errand.h"
#include "relay/flow_record.h"
#include "relay/flow_table.h"
#include "relay/name_lookups.h"
#include "relay/offloader.h"
#include "relay/pump.h"
#include "relay/target_leg.h"
#include "relay/timer_wheel.h"
#include "relay/tls_legs.h"
#include "relay/udp_engine.h"
#include "upstream/groups.h"

namespace limpid {

struct RelayTimeouts {
  std::chrono::milliseconds connect{10'000};
  /// RFC 5382 REQ-5: no established connection is given up before 2 h 4 min of silence. 0: never.
  std::chrono::milliseconds idle{7'440'000};
  std::chrono::milliseconds half_closed{7'440'000};
  /// How long a decision waits for the first bytes: a client that waits for its server to speak waits so long for it.
  std::chrono::milliseconds sniff{300};
};

/// What all workers share; it outlives them. Atomics only.
struct SharedRelayState {
  std::atomic<std::size_t> open_flows{0};          ///< that have sockets
  std::atomic<std::size_t> leaving{0};             ///< of those: that were handed over (cut-through)
  std::atomic<std::size_t> offloaded{0};           ///< that were handed over and are not over
  std::atomic<std::size_t> offloaded_sessions{0};  ///< of UDP, the same, without those that have sockets
  std::atomic<bool> reader_waits{false};           ///< whoever drains the records asks to be woken
  UniqueFd record_event;                           ///< eventfd that wakes it
  UniqueFd finished_event;                         ///< eventfd: a worker has ended
};

struct WorkerOptions {
  std::shared_ptr<const Policy> policy;
  std::shared_ptr<const CurrentRules> rules;   ///< nullptr: none, ever
  std::size_t sniff_bytes = kMostStreamBytes;  ///< of a stream are looked at, at most
  TargetLegOptions target_leg;
  RelayTimeouts timeouts;
  std::size_t max_flows = 0;                 ///< of all workers together
  std::size_t max_pipes = 0;                 ///< of this one
  bool once = false;                         ///< finishes with the first connection
  UdpOptions udp;                            ///< limits are of this one; meant only where there are UDP listeners
  FlowOffload* offload = nullptr;            ///< takes flows over, and outlives the worker; nullptr: every flow stays
  std::chrono::milliseconds offload_age{0};  ///< at which a TCP flow is handed over; 0: as soon as its target answers
  std::shared_ptr<const UpstreamGroups> upstreams{};  ///< that the policy may name; nullptr: none
  std::vector<Prefix> introducers{};                  ///< whose connections begin with a PROXY header
  bool local_ends = true;                             ///< clients or targets may be programs of this host
  NameLookups* names = nullptr;                       ///< outlives the worker; nullptr: nothing goes by name
  NameHints* hints = nullptr;                         ///< outlives the worker; nullptr: no DNS is looked at
  std::uint16_t number = 0;                           ///< which worker it is
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
  void send_on_errand(std::shared_ptr<FlowErrand> errand);
  [[nodiscard]] bool finished() const noexcept { return finished_.load(std::memory_order_acquire); }
  /// How its latest flow ended. Meant only once it has finished.
  [[nodiscard]] std::optional<FlowEnd> last_end() const noexcept { return last_end_; }
  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
  [[nodiscard]] RecordRing& records() noexcept { return records_; }
  /// How many flows and UDP sessions stayed for this reason; by anybody, at any time.
  [[nodiscard]] std::uint64_t stayed(StayReason reason) const noexcept {
    return (offloader_ != nullptr ? offloader_->stayed(reason) : 0) + (udp_ != nullptr ? udp_->stayed(reason) : 0);
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
  void look_at_first_bytes(Flow& flow, FlowId id);
  void decide(Flow& flow, FlowId id, SniffOutcome outcome, const Sniffed& sniffed);
  void begin_deciding(Flow& flow, FlowId id);
  void obey(Flow& flow, FlowId id, const FlowVerdict& verdict);
  // worker_names.cc
  void dial_by_name(Flow& flow, FlowId id, const FlowVerdict& verdict);
  void dial_resolved(Flow& flow, FlowId id, const Dial& wanted, const ResolvedName& resolved);
  void take_names();
  // worker_dns.cc
  void watch_dns(Flow& flow, FlowId id);
  [[nodiscard]] std::pair<PumpOutcome, PumpOutcome> pump_both(Flow& flow, FlowId id);
  void ignore(Flow& flow, FlowId id);
  void end_ignored_flows();
  void refuse(Accepted accepted, const SocketAddress& original_destination, FlowEnd end, const Ruling& ruling = {});
  [[nodiscard]] bool watch(const Flow& flow, FlowId id, bool target);
  [[nodiscard]] Result<TargetLeg> open_leg(const Dial& dial, const ClientSide& client,
                                           const Upstream* upstream = nullptr);
  /// Puts TLS between the leg and the network.
  [[nodiscard]] Result<TargetLeg> encrypt(TargetLeg leg, const Upstream& upstream);
  /// The same within a way that a hop has made: connecting goes on until that is done, too.
  void encrypt_behind_hop(Flow& flow, FlowId id);
  [[nodiscard]] Result<TargetLeg> call_first_possible(Dial& dial, const ClientSide& client, std::uint32_t& attempts);
  void try_next_target(Flow& flow, FlowId id, FlowEnd end);
  void finish_connecting(Flow& flow, FlowId id, std::uint32_t events);
  void start_relaying(Flow& flow, FlowId id);
  void look_after_waiting_client(Flow& flow, FlowId id, std::uint32_t events);
  [[nodiscard]] bool is_introducer(const IpAddress& address) const noexcept;
  [[nodiscard]] Flow* begin_with_client(Accepted accepted, const SocketAddress& original_destination, FlowId& id);
  void await_introduction(Accepted accepted, const SocketAddress& original_destination);
  void read_introduction(Flow& flow, FlowId id);
  void start_dialling(Flow& flow, FlowId id, const Dial& wanted, std::string_view name);
  void take_leg(Flow& flow, FlowId id, TargetLeg leg, const SocketAddress& target);
  void dial_upstream(Flow& flow, FlowId id);
  [[nodiscard]] bool dial_hop(Flow& flow, FlowId id);
  void note_hop_failure(Flow& flow, FlowEnd end, bool at_fault);
  void dial_next_hop(Flow& flow, FlowId id);
  void end_hop(Flow& flow, FlowId id, HandshakeState state, FlowEnd end);
  void go_without_upstream(Flow& flow, FlowId id);
  [[nodiscard]] bool note_upstream_failure(Flow& flow, FlowEnd end);
  void try_next_upstream(Flow& flow, FlowId id, FlowEnd end);
  [[nodiscard]] bool begin_handshake(Flow& flow, FlowId id);
  void shake_hands(Flow& flow, FlowId id);
  void expire_handshake(Flow& flow, FlowId id);
  void end_handshake(Flow& flow, FlowId id, HandshakeState state, FlowEnd end);
  void relay_bytes(Flow& flow, FlowId id);
  void follow_reset(Flow& flow, FlowId id);
  void finish(Flow& flow, FlowId id);
  void linger(Flow& flow, FlowId id);
  void check_linger(Flow& flow, FlowId id);
  /// Bytes that its peers have not acknowledged.
  [[nodiscard]] std::size_t unacknowledged(const Flow& flow) const noexcept;
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
  // worker_errands.cc
  [[nodiscard]] FlowView view_of(const Flow& flow, std::uint32_t index) const noexcept;
  [[nodiscard]] std::optional<FlowView> look_at(const FlowName& name);
  [[nodiscard]] bool run_errand(FlowErrand& errand);
  void run_errands();
  void give_up_errands();
  [[nodiscard]] bool kill(const FlowName& name);
  // worker_audit.cc
  [[nodiscard]] bool audit(FlowErrand& errand);
  [[nodiscard]] bool end_if_forbidden(std::uint32_t index);

  WorkerOptions options_;
  SharedRelayState& shared_;
  UniqueFd epoll_;
  UniqueFd command_;  ///< eventfd
  Acceptor acceptor_;
  Decider decider_;
  std::atomic<Mode> requested_{Mode::serving};
  std::atomic<bool> finished_{false};
  Mode mode_ = Mode::serving;

  Counters counters_;
  RecordRing records_;
  FlowTable flows_;
  std::unique_ptr<Offloader> offloader_;  ///< nullptr: every flow stays
  std::unique_ptr<UdpEngine> udp_;        ///< nullptr without UDP listeners
  TlsLegs tls_;
  TimerWheel timers_;
  BufferPool buffers_;
  PipePool pipes_;
  std::vector<std::byte> shared_buffer_;
  PumpResources resources_;
  std::vector<FlowId> ready_;             ///< flows that spent their budget
  std::vector<std::uint32_t> expired_;    ///< scratch of the loop
  std::uint64_t now_ms_ = 0;              ///< monotonic, read once a round
  std::uint64_t resume_ms_ = 0;           ///< when paused listeners are asked again
  std::shared_ptr<NameMailbox> mailbox_;  ///< nullptr: nothing goes by name
  std::vector<NameNews> news_;            ///< scratch
  std::unordered_map<std::uint32_t, Dial>
      wanted_;  ///< of resolving flows, by their slots: what is dialled, but for the address
  std::unordered_map<std::uint32_t, std::unique_ptr<DnsWatch>> dns_;  ///< of relayed flows to resolvers, by their slots
  ErrandBox errand_box_;
  std::vector<std::shared_ptr<FlowErrand>> errands_;  ///< one after the other
  std::uint16_t number_;
  bool emitted_ = false;  ///< a record was pushed in this round
  std::optional<FlowEnd> last_end_;
};

}  // namespace limpid
