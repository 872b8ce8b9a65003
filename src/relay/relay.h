// Relay: the workers and their threads. Knows listeners, a policy and timeouts; knows no firewall.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "relay/offload_collector.h"
#include "relay/worker.h"
#include "upstream/groups.h"

namespace limpid {

struct RelayOptions {
  std::shared_ptr<const Policy> policy;
  std::shared_ptr<const CurrentRules> rules;  ///< nullptr: none, ever; workers and UDP engines ask them
  std::size_t sniff_bytes = kMostStreamBytes;
  TargetLegOptions target_leg;
  RelayTimeouts timeouts;
  std::size_t max_flows = 0;       ///< 0: as many as file descriptors allow
  bool once = false;               ///< serves one connection and finishes with it; for one worker
  FlowOffload* offload = nullptr;  ///< takes flows over (cut-through); outlives the relay
  bool hands_over =
      true;  ///< false: flows that an earlier process has handed to `offload` are looked after, no more follow
  std::chrono::milliseconds offload_age{0};  ///< at which a TCP flow is handed over; 0: as soon as its target answers
  std::shared_ptr<const UpstreamGroups> upstreams{};  ///< that the policy may name; nullptr: none
  std::vector<Prefix> introducers{};                  ///< networks whose connections begin with a PROXY header
  bool local_ends = true;                             ///< clients or targets may be programs of this host
  bool waits = false;                                 ///< nothing runs before begin(): a predecessor hands over first
  NameLookups* names = nullptr;                       ///< outlives the relay; nullptr: nothing goes by name
  NameHints* hints = nullptr;                         ///< outlives the relay; nullptr: no DNS is looked at
  UdpOptions udp;  ///< limits: of all workers together, 0: a quarter of the descriptors, and 1,024 a source
};

/// Owns the threads. Signals that others wait for must be blocked before start(), because threads inherit the mask.
class Relay {
 public:
  /// `listeners[i]` goes to worker i.
  [[nodiscard]] static Result<std::unique_ptr<Relay>> start(const RelayOptions& options,
                                                            std::vector<WorkerListeners> listeners);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  Relay(Relay&&) = delete;
  Relay& operator=(Relay&&) = delete;
  ~Relay();  ///< stop(), and waits for the threads

  // Handover, from one process to its successor (relay_handover.cc). By the main thread.
  /// The threads begin. Once, where RelayOptions::waits was set.
  void begin();
  /// For each worker. Borrowed, as long as nobody lets the relay drain or stop.
  [[nodiscard]] std::vector<ListenerDescriptors> listener_descriptors() const;
  /// No flow is handed over to cut-through any more, and the ends of those that were are left for a successor to hear of; or all is as usual again.
  void keep_flows(bool keep);
  /// How many are half way into it.
  [[nodiscard]] std::size_t leaving_flows() const noexcept { return shared_.leaving.load(std::memory_order_relaxed); }
  /// Asks all workers to stand still.
  [[nodiscard]] std::shared_ptr<FlowFreeze> freeze();
  /// Before begin(): a packet of a predecessor's, of the worker with the same number.
  [[nodiscard]] Status adopt(std::span<const std::byte> packet, std::span<UniqueFd> descriptors);
  /// What came of it.
  [[nodiscard]] Adopted adopted() const noexcept;
  /// Before begin(): a predecessor's. Counters that this program does not know are passed over.
  void add_count(std::string_view name, std::uint64_t amount) noexcept;
  /// Before begin(): of the sessions in a predecessor's counters, so many were forwarded without us, and are found in the kernel as well.
  void note_counted_sessions(std::size_t count) noexcept { counted_sessions_ = count; }

  void drain() noexcept;
  void stop() noexcept;
  /// Ends the flows that the rules of now forbid: resets those of TCP. Waits for the workers, but not longer than that.
  AuditOutcome end_forbidden(std::chrono::milliseconds patience);
  [[nodiscard]] bool finished() const noexcept;  ///< every worker has ended
  /// Those that were handed over included.
  [[nodiscard]] std::size_t open_flows() const noexcept;
  /// Those alone.
  [[nodiscard]] std::size_t offloaded_flows() const noexcept {
    return shared_.offloaded.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::size_t max_flows() const noexcept { return max_flows_; }
  /// The sum over all workers.
  [[nodiscard]] std::uint64_t count(Counter counter) const noexcept;
  /// How many flows stayed for this reason, of all that could have been handed over.
  [[nodiscard]] std::uint64_t stayed(StayReason reason) const noexcept;
  /// nullptr: none.
  [[nodiscard]] const UpstreamGroups* upstreams() const noexcept { return upstreams_.get(); }
  /// Out of DNS answers; nullptr: none are learnt.
  [[nodiscard]] const NameHints* hints() const noexcept { return hints_; }
  /// Whether flows are handed over at all.
  [[nodiscard]] std::size_t offloaded_sessions() const noexcept {
    return shared_.offloaded_sessions.load(std::memory_order_relaxed);
  }
  /// UDP sessions that live, handed over or not.
  [[nodiscard]] std::size_t open_sessions() const noexcept;
  /// Of those that were handed over: what an earlier process had left when this one began, of which less is known. Never fewer, even when they are over.
  [[nodiscard]] std::size_t adopted_flows() const noexcept;
  [[nodiscard]] std::size_t adopted_sessions() const noexcept;
  [[nodiscard]] bool offloads() const noexcept { return collector_ != nullptr; }
  /// Once finished(): resets those that were handed over and are left. Their records can still be taken.
  void end_offloaded();

  /// Readable once a worker has ended by itself or was told to. Borrowed.
  [[nodiscard]] int finished_descriptor() const noexcept { return shared_.finished_event.get(); }
  /// How the latest flow ended: the outcome of `once`. Empty before any did; meant only after finished().
  [[nodiscard]] std::optional<FlowEnd> last_end() const noexcept;

  // Questions of operators (relay_questions.cc). From any thread.
  /// Asks every worker; when all have answered, `done` is called, on one of their threads.
  [[nodiscard]] std::shared_ptr<FlowSearch> search_flows(FlowQuery query, std::function<void()> done);
  /// Once it is done: with those that were handed over.
  [[nodiscard]] FlowPage finish_search(FlowSearch& search) const;
  /// `done` hears what there is to say of the flow of that name, with its target leg; nothing: there is none.
  void view_flow(const FlowName& name, std::function<void(std::optional<FlowView>)> done);
  /// Resets both sides of a flow, ends a UDP session. `done` hears whether there was one of that name.
  void kill_flow(const FlowName& name, std::function<void(bool)> done);
  /// `done` is called, on one of their threads, when every worker has come round in its loop once more (or has ended): never, as long as one is stuck.
  void ask_for_progress(std::function<void()> done);
  [[nodiscard]] HistogramReading read(DurationHistogram Counters::* histogram) const noexcept;
  [[nodiscard]] std::size_t workers() const noexcept { return workers_.size(); }

  /// One reader at a time: hands over every record that is there.
  void take_records(const std::function<void(const FlowRecord&)>& consume);
  /// Waits until there may be records or `timeout` has passed.
  void wait_for_records(std::chrono::milliseconds timeout);
  /// By whoever takes records: so many could not be put where they belong. Counts them as Counter::access_log_dropped.
  void count_lost_records(std::uint64_t count) noexcept { lost_records_.fetch_add(count, std::memory_order_relaxed); }
  /// From another thread: ends wait_for_records() at once.
  void wake_reader() noexcept;

 private:
  Relay() = default;
  void add_what_passed_by(FlowView& view) const;
  SharedRelayState shared_;
  std::size_t max_flows_ = 0;
  std::shared_ptr<const UpstreamGroups> upstreams_;
  const NameHints* hints_ = nullptr;
  std::size_t counted_sessions_ = 0;
  std::atomic<std::uint64_t> lost_records_{0};   ///< after they were taken
  FlowOffload* offload_ = nullptr;               ///< nullptr: none; outlives the relay
  std::unique_ptr<Decider> judge_;               ///< of flows that no worker has; main thread only
  std::unique_ptr<OffloadCollector> collector_;  ///< nullptr: nothing is handed over
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::jthread> threads_;
};

}  // namespace limpid
