// A flow that leaves the worker without ending (cut-through): the attempt, and its last moments here. Part of Worker.
//
// States: relaying → (handed over) → leaving → gone. While it leaves, its packets pass the sockets by; these deliver what had arrived before, and
// stay until all that they have sent is acknowledged. Then they are closed without a word, and the flow's record is left to whoever has it.
#include <algorithm>

#include "relay/upstream_leg.h"
#include "relay/worker.h"

namespace limpid {
namespace {

constexpr std::uint32_t kLongestDelayMs = 256;
/// A port that is taken is rare: so many in a row are a source mode that leaves no choice.
constexpr int kMostDials = 8;

}  // namespace

/// Not with the port of a flow that has left us: the kernel takes that for free.
Result<TargetLeg> Worker::open_leg(const Dial& dial, const ClientSide& client, const Upstream* upstream) {
  const auto open = [&] {
    return upstream == nullptr ? open_target_leg(dial, client, options_.target_leg, counters_)
                               : open_upstream_leg(*upstream, dial, client, options_.target_leg, counters_);
  };
  auto leg = open();
  for (int dials = 1;
       leg && offloader_ != nullptr && dials < kMostDials && offloader_->is_taken(leg->fd.get(), dial.target);
       ++dials) {
    // The first one is closed only when the second is made, which so gets another port. Before its SYN is answered that sends nothing.
    auto another = open();
    leg = std::move(another);
  }
  return leg && upstream != nullptr && upstream->tls.used ? encrypt(std::move(*leg), *upstream) : std::move(leg);
}

Result<TargetLeg> Worker::encrypt(TargetLeg leg, const Upstream& upstream) {
  auto plain = tls_.open(std::move(leg.fd), upstream);
  if (!plain) return std::unexpected(std::move(plain.error()));
  leg.fd = std::move(*plain);
  leg.encrypted = true;
  return leg;
}

bool Worker::try_leave(Flow& flow, FlowId id) {
  if (offloader_ == nullptr || mode_ == Mode::stopping || shared_.keeps_flows.load(std::memory_order_relaxed))
    return false;
  if (!Offloader::may_try(flow) || now_ms_ < flow.give_up_ms) return false;
  if (!offloader_->try_begin(flow)) {
    schedule_idle(flow, id);
    return false;
  }
  counters_.add(Counter::cut_through);
  shared_.leaving.fetch_add(1, std::memory_order_relaxed);
  shared_.offloaded.fetch_add(1, std::memory_order_relaxed);
  flow.state = FlowState::leaving;
  flow.linger_delay_ms = TimerWheel::kTickMs;
  leave_step(flow, id);
  return true;
}

void Worker::leave_step(Flow& flow, FlowId id) {
  auto step = offloader_->step(flow);
  if (step == LeaveStep::busy) {
    const auto bytes_up = flow.up.bytes;
    const auto bytes_down = flow.down.bytes;
    const auto up = pump(flow.up, flow.client, flow.target, resources_);
    const auto down = pump(flow.down, flow.target, flow.client, resources_);
    counters_.add(Counter::bytes_up, flow.up.bytes - bytes_up);
    counters_.add(Counter::bytes_down, flow.down.bytes - bytes_down);
    if (up == PumpOutcome::no_memory || down == PumpOutcome::no_memory) return end_leaving(flow, id, FlowEnd::error);
    if (flow.client.reset) return end_leaving(flow, id, FlowEnd::client_reset);
    if (flow.target.reset) return end_leaving(flow, id, FlowEnd::target_reset);
    flow.linger_delay_ms = TimerWheel::kTickMs;
    // Once more, for what was read just now to be acknowledged at once.
    step = offloader_->step(flow);
  }
  if (step == LeaveStep::lost) return end_leaving(flow, id, FlowEnd::error);
  if (step == LeaveStep::quiet) {
    offloader_->leave_tracking(flow);
    const auto name = flow.offload_id;
    forget(flow, id);
    return options_.offload->release(name);
  }
  timers_.schedule(id.index, now_ms_ + flow.linger_delay_ms);
  flow.linger_delay_ms = std::min(flow.linger_delay_ms * 2, kLongestDelayMs);
}

void Worker::end_leaving(Flow& flow, FlowId id, FlowEnd end) {
  if (offloader_->end(flow)) {
    record_end(flow, end);
    shared_.offloaded.fetch_sub(1, std::memory_order_relaxed);
  }
  forget(flow, id);
}

/// The record of one that was settled, and its end in the counters, are the collector's.
void Worker::forget(Flow& flow, FlowId id) {
  timers_.cancel(id.index);
  release(flow.up, resources_);
  release(flow.down, resources_);
  Offloader::close_silently(flow);
  flows_.destroy(id);
  shared_.open_flows.fetch_sub(1, std::memory_order_relaxed);
  shared_.leaving.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace limpid
