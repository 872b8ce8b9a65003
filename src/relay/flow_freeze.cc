// A condition variable for both sides: a handover is rare.
#include "relay/flow_freeze.h"

#include <utility>

namespace limpid {

FlowFreeze::Decision FlowFreeze::stand_still(std::uint16_t worker, WorkerState state) {
  std::unique_lock lock(mutex_);
  if (decision_ == Decision::open) {
    states_.at(worker) = std::move(state);
    --missing_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return decision_ != Decision::open; });
  }
  return decision_;
}

void FlowFreeze::miss() {
  const std::lock_guard lock(mutex_);
  missed_ = true;
  changed_.notify_all();
}

FlowFreeze::Decision FlowFreeze::decision() const {
  const std::lock_guard lock(mutex_);
  return decision_;
}

bool FlowFreeze::await(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [this] { return missing_ == 0 || missed_; });
  return missing_ == 0;
}

void FlowFreeze::decide(Decision decision) {
  const std::lock_guard lock(mutex_);
  if (decision_ == Decision::open) decision_ = decision;
  changed_.notify_all();
}

}  // namespace limpid
