// Relay: the workers and their threads. Knows listeners, a policy and timeouts; knows no firewall.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "relay/offload_collector.h"
#include "relay/worker.h"

namespace limpid {

struct RelayOptions {
  std::shared_ptr<const Policy> policy;
  TargetLegOptions target_leg;
  RelayTimeouts timeouts;
  std::size_t max_flows = 0;       ///< 0: as many as file descriptors allow
  bool once = false;               ///< serves one connection and finishes with it; for one worker
  FlowOffload* offload = nullptr;  ///< takes flows over (cut-through); outlives the relay
  bool hands_over =
      true;  ///< false: flows that an earlier process has handed to `offload` are looked after, no more follow
  bool local_ends = true;  ///< clients or targets may be programs of this host
  UdpOptions udp;          ///< limits: of all workers together, 0: a quarter of the descriptors, and 1,024 a source
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

  void drain() noexcept;
  void stop() noexcept;
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
  /// Whether flows are handed over at all.
  [[nodiscard]] bool offloads() const noexcept { return collector_ != nullptr; }
  /// Once finished(): resets those that were handed over and are left. Their records can still be taken.
  void end_offloaded();

  /// Readable once a worker has ended by itself or was told to. Borrowed.
  [[nodiscard]] int finished_descriptor() const noexcept { return shared_.finished_event.get(); }
  /// How the latest flow ended: the outcome of `once`. Empty before any did; meant only after finished().
  [[nodiscard]] std::optional<FlowEnd> last_end() const noexcept;

  /// One reader at a time: hands over every record that is there.
  void take_records(const std::function<void(const FlowRecord&)>& consume);
  /// Waits until there may be records or `timeout` has passed.
  void wait_for_records(std::chrono::milliseconds timeout);
  /// From another thread: ends wait_for_records() at once.
  void wake_reader() noexcept;

 private:
  Relay() = default;
  SharedRelayState shared_;
  std::size_t max_flows_ = 0;
  std::unique_ptr<OffloadCollector> collector_;  ///< nullptr: nothing is handed over
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::jthread> threads_;
};

}  // namespace limpid
