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
  shared_.offloaded_sessions.fetch_add(offload_.adopted_sessions(), std::memory_order_relaxed);
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

std::size_t OffloadCollector::end_forbidden(Decider& decider) {
  return offload_.end_forbidden([&](const FlowRecord& record) {
    const auto transport = record.protocol == Protocol::udp ? Transport::udp : Transport::tcp;
    return decider.forbidden_by(transport,
                                {.client = record.client, .original_destination = record.original_destination},
                                record.ruling, nullptr);
  });
}

void OffloadCollector::pause() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void OffloadCollector::go_on() {
  if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& stopped) { work(stopped); });
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
  const bool udp = record.protocol == Protocol::udp;
  (udp ? counters_.session_duration : counters_.flow_duration).add(std::chrono::microseconds{record.duration_us});
  counters_.add(udp ? Counter::udp_sessions_ended : Counter::flows_ended);
  counters_.add(Counter::cut_through_bytes_up, record.bytes_up);
  counters_.add(Counter::cut_through_bytes_down, record.bytes_down);
  if (!records_.push(record)) counters_.add(Counter::access_log_dropped);
  (udp ? shared_.offloaded_sessions : shared_.offloaded).fetch_sub(1, std::memory_order_relaxed);
  taken_ = true;
}

void OffloadCollector::wake_reader() noexcept {
  if (std::exchange(taken_, false) && shared_.reader_waits.exchange(false, std::memory_order_acq_rel)) {
    eventfd_write(shared_.record_event.get(), 1);
  }
}

}  // namespace limpid
