// The end of a flow that both sides have finished, or that one has reset: what was sent before must arrive first. Part of Worker.
#include <algorithm>

#include "relay/leg_queue.h"
#include "relay/worker.h"

namespace limpid {
namespace {

/// How long the end of a flow waits, without any progress, for the other side to acknowledge what it was sent before.
constexpr std::uint64_t kLingerMs = 30'000;
/// Less than this is on its way already and is left to the kernel at a graceful end. More would be lost with the rules if they were
/// removed soon after.
constexpr std::size_t kMostLeftToKernelBytes = 16 * 1024;
constexpr std::uint32_t kLongestLingerDelayMs = 256;

}  // namespace

/// One leg is gone. What it had sent before must reach the other leg's peer; then that leg is reset as well.
void Worker::follow_reset(Flow& flow, FlowId id) {
  const bool target_gone = flow.target.reset;
  const FlowEnd end = target_gone ? FlowEnd::target_reset : FlowEnd::client_reset;
  if (flow.target.reset && flow.client.reset) return end_flow(flow, id, end, Closing::with_reset);
  const Direction& from_the_dead = target_gone ? flow.down : flow.up;
  if (!from_the_dead.done) {
    // Its last bytes are still unread, or the survivor does not take them yet. If it is not the survivor that we wait
    // for, read on.
    const Leg& survivor = target_gone ? flow.client : flow.target;
    if (survivor.writable && !flow.queued) {
      flow.queued = true;
      ready_.push_back(id);
    }
    return;
  }
  (target_gone ? flow.target : flow.client).fd.reset();
  flow.end = end;
  linger(flow, id);
}

/// Both sides have finished. What the kernel still has to send needs our rules for its acknowledgements, so a flow with much of it
/// stays until it is gone; during a drain, which ends with the rules' removal, one with any of it.
void Worker::finish(Flow& flow, FlowId id) {
  const std::size_t bytes = unacknowledged(flow);
  if (bytes <= (mode_ == Mode::draining ? std::size_t{0} : kMostLeftToKernelBytes)) {
    return end_flow(flow, id, FlowEnd::closed, Closing::gracefully);
  }
  flow.end = FlowEnd::closed;
  linger(flow, id);
}

std::size_t Worker::unacknowledged(const Flow& flow) const noexcept {
  const auto of = [](const Leg& leg) { return static_cast<std::size_t>(unacknowledged_bytes(leg)); };
  return of(flow.client) + (flow.target.encrypted && flow.target.fd.valid()
                                ? tls_.unacknowledged_bytes(flow.target.fd.get())
                                : of(flow.target));
}

void Worker::linger(Flow& flow, FlowId id) {
  release(flow.up, resources_);
  release(flow.down, resources_);
  flow.state = FlowState::lingering;
  flow.give_up_ms = now_ms_ + kLingerMs;
  flow.unacknowledged = 0;
  flow.linger_delay_ms = TimerWheel::kTickMs;
  check_linger(flow, id);
}

void Worker::check_linger(Flow& flow, FlowId id) {
  // A RST makes the kernel forget what is still to be sent (tcp_disconnect), so it must wait for the acknowledgement.
  const auto bytes = static_cast<std::uint32_t>(unacknowledged(flow));
  if (bytes < flow.unacknowledged) flow.give_up_ms = now_ms_ + kLingerMs;
  flow.unacknowledged = bytes;
  if (bytes == 0 || now_ms_ >= flow.give_up_ms) {
    return end_flow(flow, id, flow.end, flow.end == FlowEnd::closed ? Closing::gracefully : Closing::with_reset);
  }
  timers_.schedule(id.index, now_ms_ + flow.linger_delay_ms);
  flow.linger_delay_ms = std::min(flow.linger_delay_ms * 2, kLongestLingerDelayMs);
}

}  // namespace limpid
