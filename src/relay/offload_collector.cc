// A look a second; many a second during a drain.
#include "relay/offload_collector.h"

#include <sys/eventfd.h>

#include <chrono>
#include <utility>

#include "relay/flow_end.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kUsual{1000};
constexpr std::chrono::milliseconds kHurried{20};

}  // namespace

OffloadCollector::OffloadCollector(FlowOffload& offload, SharedRelayState& shared)
    : offload_(offload), shared_(shared), thread_([this](const std::stop_token& stopped) { work(stopped); }) {
  shared_.offloaded.fetch_add(offload_.adopted(), std::memory_order_relaxed);
}

OffloadCollector::~OffloadCollector() {
  thread_.request_stop();
}

void OffloadCollector::hurry() noexcept {
  {
    const std::lock_guard lock(mutex_);
    hurried_ = true;
  }
  changed_.notify_one();
}

void OffloadCollector::close() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  offload_.close([this](const FlowRecord& record) { take(record); });
  wake_reader();
}

void OffloadCollector::work(const std::stop_token& stopped) {
  while (!stopped.stop_requested()) {
    offload_.collect([this](const FlowRecord& record) { take(record); });
    wake_reader();
    std::unique_lock lock(mutex_);
    if (hurried_) {
      changed_.wait_for(lock, stopped, kHurried, [] { return false; });
    } else {
      changed_.wait_for(lock, stopped, kUsual, [this] { return hurried_; });
    }
  }
}

void OffloadCollector::take(const FlowRecord& record) noexcept {
  count_end(counters_, record.end);
  counters_.add(Counter::flows_ended);
  counters_.add(Counter::cut_through_bytes_up, record.bytes_up);
  counters_.add(Counter::cut_through_bytes_down, record.bytes_down);
  if (!records_.push(record)) counters_.add(Counter::access_log_dropped);
  shared_.offloaded.fetch_sub(1, std::memory_order_relaxed);
  taken_ = true;
}

void OffloadCollector::wake_reader() noexcept {
  if (std::exchange(taken_, false) && shared_.reader_waits.exchange(false, std::memory_order_acq_rel)) {
    eventfd_write(shared_.record_event.get(), 1);
  }
}

}  // namespace limpid
