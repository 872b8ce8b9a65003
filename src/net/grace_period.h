// Grace periods: when everything that the kernel's network stack was in the middle of has come to its end. A packet is taken from the device's queue to its
// socket within one read-side section of RCU, programs at tc ingress included, so whatever such a program let through before the grace period began lies
// in a socket's queue when it is over. membarrier(2) with MEMBARRIER_CMD_GLOBAL waits for one (synchronize_rcu() in kernel/sched/membarrier.c), for
// tens of milliseconds: so a thread of its own waits, once for all who ask.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <thread>

namespace limpid {

/// A thread that sleeps while nobody asks. Every member may be called from any thread.
class GracePeriods {
 public:
  GracePeriods();

  /// Names this moment.
  [[nodiscard]] std::uint64_t ask();
  /// Whether a grace period has begun after that moment and is over.
  [[nodiscard]] bool passed(std::uint64_t moment) const noexcept {
    return over_.load(std::memory_order_acquire) >= moment;
  }

 private:
  void work(const std::stop_token& stopped);

  std::mutex mutex_;
  std::condition_variable_any asked_for_;
  std::uint64_t begun_ = 0;   ///< under the mutex: how many have begun
  std::uint64_t wanted_ = 0;  ///< under the mutex: as many are to be over
  std::atomic<std::uint64_t> over_{0};
  std::jthread thread_;  ///< last: it uses the others
};

}  // namespace limpid
