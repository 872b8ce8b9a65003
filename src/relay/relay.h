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
#include "relay/worker.h"

namespace limpid {

struct RelayOptions {
  std::shared_ptr<const Policy> policy;
  TargetLegOptions target_leg;
  RelayTimeouts timeouts;
  std::size_t max_flows = 0;  ///< 0: as many as file descriptors allow
  bool once = false;          ///< serves one connection and finishes with it; for one worker
  UdpOptions udp;             ///< limits: of all workers together, 0: a quarter of the descriptors, and 1,024 a source
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
  [[nodiscard]] std::size_t open_flows() const noexcept { return shared_.open_flows.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t max_flows() const noexcept { return max_flows_; }
  /// The sum over all workers.
  [[nodiscard]] std::uint64_t count(Counter counter) const noexcept;

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
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::jthread> threads_;
};

}  // namespace limpid
