// See offloader.h for the theory of operation.
#include "relay/offloader.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "limpid/transparent.h"
#include "relay/clock.h"

namespace limpid {
namespace {

/// Between two attempts of a hold, and between two holds.
constexpr std::uint64_t kRetryMs = 16;
constexpr std::uint64_t kRestMs = 3000;

/// Flows with the client's own port have sockets with SO_REUSEADDR (bind_source in net/transparent.cc); so have accepted ones.
bool target_reuses_address(const Flow& flow) noexcept {
  return flow.source == SourceMode::address_and_port;
}

bool holds_bytes(const Direction& direction) noexcept {
  return !direction.held.empty() || direction.piped > 0;
}

/// An acknowledgement that is delayed until the flow has ended elsewhere would come to peers that are gone, and be answered with a reset.
void acknowledge_now(int fd) noexcept {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

bool is_over(int fd) noexcept {
  const auto traits = tcp_traits(fd);
  return !traits || traits->finished;
}

OffloadWay way(const LegFacts& ours, const LegFacts& other) noexcept {
  return {.from = {},
          .to = {},
          .new_from = {},
          .new_to = {},
          .sequence_delta = sequence_delta(ours.position, other.position),
          .peer_scale = ours.traits.peer_scale,
          .our_scale = other.traits.our_scale,
          .clock = other.position.clock,
          .received = ours.position.received,
          .announced_end = ours.position.announced_end,
          .written = ours.position.written};
}

}  // namespace

Result<std::unique_ptr<Offloader>> Offloader::create(FlowOffload& offload, bool local_ends) {
  auto paths = OffloadPaths::open(local_ends);
  if (!paths) return std::unexpected(paths.error());
  return std::unique_ptr<Offloader>(new Offloader(offload, std::move(*paths)));
}

Offloader::Offloader(FlowOffload& offload, OffloadPaths paths) : offload_(offload), paths_(std::move(paths)) {}

bool Offloader::is_taken(int target_fd, const SocketAddress& target) const {
  const auto source = original_destination(target_fd);  // getsockname(2)
  return source && offload_.is_taken(Protocol::tcp, target, *source);
}

bool Offloader::try_begin(Flow& flow) {
  const auto reason = try_now(flow);
  if (!reason) return true;
  hold(flow, *reason);
  return false;
}

void Offloader::keep(Flow& flow, StayReason reason) {
  flow.offload_attempts = kMostAttempts;
  stayed_.add(reason);
}

void Offloader::hold(Flow& flow, StayReason reason) {
  if (flow.silent_attempts == 0 || !flow.held) ++flow.offload_attempts;
  if (!is_momentary(reason)) flow.offload_attempts = kMostAttempts;
  const auto delay_ms = kRetryMs << flow.silent_attempts;
  if (flow.silent_attempts < kSilentAttempts) ++flow.silent_attempts;
  const bool goes_on = flow.offload_attempts % kAttemptsOfHold != 0;
  if (goes_on) {
    // Again each time: a segment of another size lets it go (net/tcp_state.h).
    hold_tcp_window(flow.client.fd.get());
    hold_tcp_window(flow.target.fd.get());
    flow.held = true;
    flow.give_up_ms = monotonic_ms() + delay_ms;
    return;
  }
  if (std::exchange(flow.held, false)) {
    release_tcp_window(flow.client.fd.get());
    release_tcp_window(flow.target.fd.get());
  }
  flow.give_up_ms = monotonic_ms() + kRestMs;
  if (may_try(flow)) return;
  stayed_.add(reason);
}

std::optional<StayReason> Offloader::reason_for_good(const Flow& flow, const SocketAddress& source) {
  if (flow.routed_otherwise) return StayReason::routed_otherwise;
  if (offload_.passes_netfilter() && flow.target_address != flow.original_destination) return StayReason::other_target;
  return paths_.reason_to_stay(Transport::tcp, {.client = flow.client_address,
                                                .original_destination = flow.original_destination,
                                                .source = source,
                                                .target = flow.target_address});
}

std::optional<StayReason> Offloader::try_now(Flow& flow) {
  if (flow.target.encrypted) return StayReason::encrypted;
  if (flow.client.urgent || flow.target.urgent) return StayReason::urgent;
  if (flow.up.done || flow.down.done || flow.client.hangup || flow.target.hangup) return StayReason::half_closed;
  if (flow.up.source_end != SourceEnd::none || flow.down.source_end != SourceEnd::none) return StayReason::half_closed;
  const int client_fd = flow.client.fd.get();
  const int target_fd = flow.target.fd.get();
  const auto client_traits = tcp_traits(client_fd);
  const auto target_traits = tcp_traits(target_fd);
  if (!client_traits || !target_traits) return StayReason::unreadable;
  if (const auto reason = compare_handshakes(*client_traits, *target_traits)) return reason;
  if (holds_bytes(flow.up) || holds_bytes(flow.down)) return StayReason::bytes_held;
  const auto source = original_destination(target_fd);  // getsockname(2)
  if (!source) return StayReason::unreadable;
  if (!flow.movable) {
    if (const auto reason = reason_for_good(flow, *source)) return reason;
    flow.movable = true;
  }
  if (const auto reason = compare_queues(tcp_queues(client_fd), tcp_queues(target_fd))) return reason;
  const auto client_position = tcp_position(client_fd, true);
  const auto target_position = tcp_position(target_fd, target_reuses_address(flow));
  for (const auto* position : {&client_position, &target_position}) {
    if (!*position) return position->error().code == ESHUTDOWN ? StayReason::half_closed : StayReason::unreadable;
  }
  const LegFacts client{.traits = *client_traits, .position = *client_position};
  const LegFacts target{.traits = *target_traits, .position = *target_position};
  if (const auto reason = compare_windows(client, target)) return reason;
  return hand_over(flow, client, target, *source);
}

std::optional<StayReason> Offloader::hand_over(Flow& flow, const LegFacts& client, const LegFacts& target,
                                               const SocketAddress& source) {
  OffloadedFlow offloaded{.up = way(client, target),
                          .down = way(target, client),
                          .timestamps = client.traits.timestamps,
                          .sack = client.traits.sack,
                          .record = {}};
  offloaded.up.from = offloaded.down.new_to = flow.client_address;
  offloaded.up.to = offloaded.down.new_from = flow.original_destination;
  offloaded.up.new_from = offloaded.down.to = source;
  offloaded.up.new_to = offloaded.down.from = flow.target_address;
  const auto age_us = static_cast<std::int64_t>(monotonic_ms() - flow.started_ms) * 1000;
  offloaded.record = {.client = flow.client_address,
                      .original_destination = flow.original_destination,
                      .target = flow.target_address,
                      .bytes_up = flow.up.bytes + (client.position.received - client.position.read),
                      .bytes_down = flow.down.bytes + (target.position.received - target.position.read),
                      .started_us = wall_clock_us() - age_us,
                      .source = flow.source,
                      .upstream = flow.upstream ? flow.upstream->shown() : std::string_view{},
                      .ruling = flow.ruling};
  // What the sockets still read must not make them promise more than the other end has.
  hold_tcp_window(flow.client.fd.get());
  hold_tcp_window(flow.target.fd.get());
  const auto begun = offload_.begin(offloaded);
  if (begun) {
    flow.offload_id = *begun;
    flow.offload_moment = offload_.this_moment();
    return std::nullopt;
  }
  release_tcp_window(flow.client.fd.get());
  release_tcp_window(flow.target.fd.get());
  return stay_reason(begun.error().code);
}

LeaveStep Offloader::step(Flow& flow) {
  // What another CPU was in the middle of, when the flow was handed over or settled, must have reached its socket.
  const bool passed = offload_.has_passed(flow.offload_moment);
  if (flow.settled) return passed ? LeaveStep::quiet : LeaveStep::waits;
  const int client_fd = flow.client.fd.get();
  const int target_fd = flow.target.fd.get();
  const TcpQueues client = tcp_queues(client_fd);
  const TcpQueues target = tcp_queues(target_fd);
  // Not by events: one may still be on its way to us.
  const bool client_over = is_over(client_fd) && !flow.up.done;
  const bool target_over = is_over(target_fd) && !flow.down.done;
  if (client.unread > 0 || target.unread > 0 || client_over || target_over || holds_bytes(flow.up) ||
      holds_bytes(flow.down)) {
    if (std::exchange(flow.silent, false) && (!end_tcp_repair(client_fd, false) || !end_tcp_repair(target_fd, false))) {
      return LeaveStep::lost;
    }
    if (client.unread > 0 || client_over) flow.client.readable = true;
    if (target.unread > 0 || target_over) flow.target.readable = true;
    if (client_over) flow.client.hangup = true;
    if (target_over) flow.target.hangup = true;
    return LeaveStep::busy;
  }
  acknowledge_now(client_fd);
  acknowledge_now(target_fd);
  if (!passed) return LeaveStep::waits;
  // From here on, the end of this process is no event for either end.
  if (!flow.silent) {
    if (!begin_tcp_repair(client_fd) || !begin_tcp_repair(target_fd)) return LeaveStep::lost;
    flow.silent = true;
  }
  const bool acknowledged = client.unacknowledged == 0 && target.unacknowledged == 0;
  if (!acknowledged && !offload_.is_reset(flow.offload_id)) return LeaveStep::waits;
  if (!offload_.settle(flow.offload_id, {.client = flow.up.done,
                                         .target = flow.down.done,
                                         .at_least = {.up = flow.up.bytes, .down = flow.down.bytes}}))
    return LeaveStep::lost;
  flow.settled = true;
  flow.offload_moment = offload_.this_moment();
  return LeaveStep::waits;
}

bool Offloader::end(Flow& flow) {
  if (flow.settled) return false;
  const auto bytes = offload_.end(flow.offload_id);
  if (!bytes) return false;
  flow.up.bytes = std::max(flow.up.bytes, bytes->up);
  flow.down.bytes = std::max(flow.down.bytes, bytes->down);
  return true;
}

void Offloader::leave_tracking(const Flow& flow) {
  TrackedConnections* tracked = paths_.tracked();
  if (tracked == nullptr) return;
  const auto source = original_destination(flow.target.fd.get());
  // With the client's own port both legs are one connection to it.
  if (source && *source != flow.client_address) tracked->forget(*source, flow.target_address);
  if (offload_.passes_netfilter()) {
    tracked->go_on(flow.client_address, flow.original_destination);
  } else {
    tracked->forget(flow.original_destination, flow.client_address);
  }
}

void Offloader::close_silently(Flow& flow) {
  for (Leg* leg : {&flow.client, &flow.target}) {
    // A socket that is gone has nothing more to say.
    if (leg->fd.valid()) [[maybe_unused]]
      const Status silent = begin_tcp_repair(leg->fd.get());
    leg->fd.reset();
  }
}

}  // namespace limpid
