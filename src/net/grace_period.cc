// One thread, which counts grace periods: those that have begun under the mutex, those that are over for everybody to read.
// Why there are such things is told in grace_period.h.
#include "net/grace_period.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace limpid {
namespace {

/// A kernel with nohz_full= refuses: there, as long as no packet can take.
constexpr std::chrono::milliseconds kInstead{200};

bool wait_for_grace_period() noexcept {
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
}

}  // namespace

GracePeriods::GracePeriods() : thread_([this](const std::stop_token& stopped) { work(stopped); }) {}

std::uint64_t GracePeriods::ask() {
  std::uint64_t moment = 0;
  {
    const std::lock_guard lock(mutex_);
    moment = begun_ + 1;
    wanted_ = std::max(wanted_, moment);
  }
  asked_for_.notify_one();
  return moment;
}

void GracePeriods::work(const std::stop_token& stopped) {
  std::unique_lock lock(mutex_);
  while (asked_for_.wait(lock, stopped, [this] { return wanted_ > begun_; })) {
    const std::uint64_t number = ++begun_;
    lock.unlock();
    const bool waited = wait_for_grace_period();
    lock.lock();
    if (!waited) asked_for_.wait_for(lock, stopped, kInstead, [] { return false; });
    over_.store(number, std::memory_order_release);
  }
}

}  // namespace limpid
