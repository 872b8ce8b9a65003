// FlowFreeze: all workers of a relay stand still, each with a copy of its state as records, until somebody has decided whether they go on or another process does.
// For a handover to a successor: as long as it lasts, no byte is read or written here.
//
// States of a worker: running → (the errand reaches it) frozen → running again (thaw), or parted: what was handed over is another process's, and is forgotten here
// without a word to its peers. A worker that is reached after the decision follows it at once, without having stood still.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace limpid {

/// What a packet of a worker's state has in it: the first byte, before the number of the worker (16 bits).
enum class HandoverPart : std::uint8_t { flows, held, sessions, rulings, datagrams };

struct HandoverPacket {
  std::vector<std::byte> bytes;
  std::vector<int> descriptors;  ///< borrowed from the worker, which closes none of them as long as it is frozen
};

/// One worker's.
struct WorkerState {
  std::vector<HandoverPacket> packets;
  std::size_t flows = 0;
  std::size_t sessions = 0;
  std::size_t stays =
      0;  ///< flows that cannot be moved (TLS to an upstream; half way into cut-through): they are served to their end here
};

class FlowFreeze {
 public:
  enum class Decision : std::uint8_t { open, thaw, part };

  explicit FlowFreeze(std::size_t workers) : states_(workers), missing_(workers) {}
  FlowFreeze(const FlowFreeze&) = delete;
  FlowFreeze& operator=(const FlowFreeze&) = delete;
  FlowFreeze(FlowFreeze&&) = delete;
  FlowFreeze& operator=(FlowFreeze&&) = delete;
  ~FlowFreeze() = default;

  /// By a worker: stands still until it is decided. thaw, or part.
  [[nodiscard]] Decision stand_still(std::uint16_t worker, WorkerState state);
  /// By a worker that ends instead.
  void miss();
  /// By a worker, before it collects anything: open, unless it is too late for it.
  [[nodiscard]] Decision decision() const;

  /// By whoever decides. True when all stand still.
  [[nodiscard]] bool await(std::chrono::steady_clock::time_point deadline);
  /// Once all stand still, until it is decided.
  [[nodiscard]] const std::vector<WorkerState>& states() const noexcept { return states_; }
  /// Once; later ones do nothing.
  void decide(Decision decision);

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<WorkerState> states_;  ///< by worker; each writes its own
  std::size_t missing_;
  bool missed_ = false;
  Decision decision_ = Decision::open;
};

}  // namespace limpid
