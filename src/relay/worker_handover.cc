// A worker hands its flows over to the program that succeeds this one, or takes over those of its predecessor. Part of Worker.
//
// Theory of operation. Both legs of a flow are sockets, and whoever has a socket can go on where another stopped: what is not in the kernel is in a record
// (handover_records.h). A frozen worker reads and writes nothing; it goes on with everything (thaw), or forgets what was handed over without a word to its peers
// (part): the successor has the same sockets, and closing ours says nothing as long as it does. What cannot be moved stays, and is served to its end.
// The successor registers the sockets with its own epoll, which reports once what is ready by then; what an edge had said before is in the legs' flags.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "relay/clock.h"
#include "relay/handover_records.h"
#include "relay/state_packets.h"
#include "relay/worker.h"

namespace limpid {
namespace {

constexpr std::size_t kHeldPieceBytes = std::size_t{64} << 10U;

/// TLS is in our memory; a flow on its way into cut-through is ours and the kernel's. And whoever has sent a client's bytes along with a SYN to an upstream
/// cannot begin anew.
bool must_stay(const Flow& flow) noexcept {
  if (flow.state == FlowState::leaving) return true;
  if (!goes_on_elsewhere(flow)) return flow.sent_with_syn > 0 && flow.target.fd.valid();
  return flow.target.encrypted && flow.target.fd.valid();
}

/// In pieces, behind the flows: `ordinal` counts those of this worker.
void add_held(StatePackets& packets, std::uint32_t ordinal, bool down, const Direction& direction) {
  auto rest = std::span<const std::byte>(direction.held)
                  .subspan(direction.held_begin, direction.held_end - direction.held_begin);
  while (!rest.empty()) {
    const auto piece = rest.first(std::min(rest.size(), kHeldPieceBytes));
    packets.add([&](RecordWriter& writer, std::vector<int>&) {
      writer.number(ordinal);
      writer.number(down);
      writer.bytes(piece);
    });
    rest = rest.subspan(piece.size());
  }
}

std::unexpected<Error> nonsense(std::string_view what) {
  return failure("take over", what, "what the predecessor has sent makes no sense");
}

std::size_t descriptors_of(const HandedFlow& handed) noexcept {
  std::size_t count = 0;
  for (const bool one : {handed.has_client, handed.has_target}) count += one ? 1 : 0;
  for (const bool pipe : {handed.has_pipe_up, handed.has_pipe_down}) count += pipe ? 2 : 0;
  return count;
}

void set_low_water_mark(int fd, int bytes) noexcept {
  setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

}  // namespace

WorkerState Worker::collect_state() {
  WorkerState state;
  StatePackets flows(state.packets, HandoverPart::flows, number_);
  std::vector<const Flow*> holding;
  std::vector<std::uint32_t> ordinals;
  std::uint32_t ordinal = 0;
  for (std::uint32_t index = 0; index < flows_.capacity(); ++index) {
    const Flow* flow = flows_.at(index);
    if (flow == nullptr) continue;
    if (must_stay(*flow)) {
      ++state.stays;
      continue;
    }
    flows.add([&](RecordWriter& writer, std::vector<int>& descriptors) { write_flow(writer, *flow, descriptors); });
    if (goes_on_elsewhere(*flow) && (!flow->up.held.empty() || !flow->down.held.empty())) {
      holding.push_back(flow);
      ordinals.push_back(ordinal);
    }
    ++ordinal;
  }
  state.flows = ordinal;
  StatePackets held(state.packets, HandoverPart::held, number_);
  for (std::size_t i = 0; i < holding.size(); ++i) {
    add_held(held, ordinals[i], false, holding[i]->up);
    add_held(held, ordinals[i], true, holding[i]->down);
  }
  if (udp_ != nullptr) state.sessions = udp_->collect_state(state.packets, number_);
  return state;
}

void Worker::freeze(FlowFreeze& freeze) {
  auto decision = freeze.decision();
  if (decision == FlowFreeze::Decision::open) decision = freeze.stand_still(number_, collect_state());
  now_ms_ = monotonic_ms();
  if (decision == FlowFreeze::Decision::part) part();
}

void Worker::part() {
  for (std::uint32_t index = 0; index < flows_.capacity(); ++index) {
    Flow* flow = flows_.at(index);
    if (flow == nullptr || must_stay(*flow)) continue;
    timers_.cancel(index);
    wanted_.erase(index);
    dns_.erase(index);
    for (Direction* direction : {&flow->up, &flow->down}) {
      // Never back into the pool: the successor has this very pipe.
      pipes_.discard(std::exchange(direction->pipe, {}));
      release(*direction, resources_);
    }
    if (flow->target.encrypted && flow->target.fd.valid()) tls_.give_up(flow->target.fd.get());
    flows_.destroy({.index = index, .generation = flow->generation});
    shared_.open_flows.fetch_sub(1, std::memory_order_relaxed);
  }
  acceptor_.close();
  if (udp_ != nullptr) udp_->part();
  mode_ = Mode::draining;
}

Status Worker::adopt_flows(RecordReader& reader, std::span<UniqueFd> descriptors) {
  while (!reader.empty()) {
    auto handed = read_flow(reader);
    if (!handed) return nonsense("a flow");
    const std::size_t wanted = descriptors_of(*handed);
    if (wanted > descriptors.size()) return nonsense("a flow's descriptors");
    if (auto adopted = adopt_flow(std::move(*handed), descriptors.first(wanted)); !adopted) return adopted;
    descriptors = descriptors.subspan(wanted);
  }
  return descriptors.empty() ? Status() : nonsense("descriptors");
}

/// With as many descriptors as belong to it.
Status Worker::adopt_flow(HandedFlow handed, std::span<UniqueFd> descriptors) {
  FlowId id;
  Flow* flow = flows_.create(id);
  if (flow == nullptr) return failure("take over", "a flow", "no memory");
  *flow = std::move(handed.flow);
  flow->generation = id.generation;
  shared_.open_flows.fetch_add(1, std::memory_order_relaxed);
  adopted_.push_back(id);
  auto next = descriptors.begin();
  if (handed.has_client) flow->client.fd = std::move(*next++);
  if (handed.has_target) flow->target.fd = std::move(*next++);
  for (const auto& [direction, has_pipe, held] : {std::tuple{&flow->up, handed.has_pipe_up, handed.held_up},
                                                  std::tuple{&flow->down, handed.has_pipe_down, handed.held_down}}) {
    if (has_pipe) {
      direction->pipe.read_end = std::move(*next++);
      direction->pipe.write_end = std::move(*next++);
      pipes_.adopt();
    }
    if (held == 0) continue;
    direction->held = buffers_.acquire(held);
    if (direction->held.empty()) return failure("take over", "held bytes", "no memory");
    held_missing_ += held;
  }
  find_route(*flow, handed.upstream);
  if ((flow->client.fd.valid() && !watch(*flow, id, false)) || (flow->target.fd.valid() && !watch(*flow, id, true)))
    return system_error(errno, "watch", "a flow that was handed over");
  return {};
}

/// By names. Where the configuration has them no longer, the flow goes on, and only its log line says less.
void Worker::find_route(Flow& flow, const HandedUpstream& upstream) {
  if (upstream.group.empty() || options_.upstreams == nullptr) return;
  const std::uint16_t number = options_.upstreams->find(upstream.group);
  if (number == 0) return;
  UpstreamGroup& group = options_.upstreams->at(number);
  auto route = std::make_unique<UpstreamRoute>(
      UpstreamRoute{.group = group, .wanted = {}, .name = {}, .direct = upstream.direct});
  const auto& members = group.options().members;
  const auto member = std::ranges::find(members, upstream.member, &Upstream::name);
  if (member != members.end()) route->member = static_cast<unsigned>(member - members.begin());
  flow.upstream = std::move(route);
}

Status Worker::adopt_held(RecordReader& reader) {
  while (!reader.empty()) {
    const auto ordinal = reader.number<std::uint32_t>();
    const bool down = reader.number<bool>();
    const auto bytes = reader.bytes(kHeldPieceBytes);
    Flow* flow = reader.ok() && ordinal < adopted_.size() ? flows_.find(adopted_[ordinal]) : nullptr;
    if (flow == nullptr || bytes.empty()) return nonsense("held bytes");
    Direction& direction = down ? flow->down : flow->up;
    if (direction.held.size() < direction.held_end + bytes.size() || held_missing_ < bytes.size())
      return nonsense("held bytes");
    std::memcpy(direction.held.data() + direction.held_end, bytes.data(), bytes.size());
    direction.held_end += static_cast<std::uint32_t>(bytes.size());
    held_missing_ -= bytes.size();
  }
  return {};
}

Status Worker::adopt(HandoverPart part, RecordReader& reader, std::span<UniqueFd> descriptors) {
  switch (part) {
    case HandoverPart::flows: return adopt_flows(reader, descriptors);
    case HandoverPart::held: return adopt_held(reader);
    case HandoverPart::sessions:
    case HandoverPart::rulings:
    case HandoverPart::datagrams:
      if (udp_ == nullptr) return failure("take over", "UDP sessions", "no UDP is in scope any more");
      return udp_->adopt(part, reader, descriptors);
  }
  return nonsense("a packet");
}

Adopted Worker::adopted() const noexcept {
  return {.flows = adopted_.size(), .sessions = udp_ != nullptr ? udp_->sessions() : 0, .complete = held_missing_ == 0};
}

ListenerDescriptors Worker::listener_descriptors() const {
  return {.tcp = acceptor_.descriptors(), .udp = udp_ != nullptr ? udp_->listener_descriptors() : std::vector<int>()};
}

/// What a handover that failed has left here: sockets are closed, which says nothing to anybody as long as the predecessor has them.
Worker::~Worker() {
  for (std::uint32_t index = 0; index < flows_.capacity(); ++index) {
    Flow* flow = flows_.at(index);
    if (flow == nullptr) continue;
    release(flow->up, resources_);
    release(flow->down, resources_);
  }
}

/// On the worker's thread, before its first round.
void Worker::begin_adopted() {
  now_ms_ = monotonic_ms();
  for (const FlowId id : std::exchange(adopted_, {})) {
    Flow* flow = flows_.find(id);
    if (flow == nullptr) continue;
    switch (flow->state) {
      case FlowState::introducing: timers_.schedule(id.index, flow->give_up_ms); break;
      case FlowState::deciding:
        set_low_water_mark(flow->client.fd.get(), 1);
        begin_deciding(*flow, id);
        break;
      case FlowState::ignoring: ignore(*flow, id); break;
      case FlowState::connecting: timers_.schedule(id.index, flow->give_up_ms); break;
      case FlowState::relaying:
        if (flow->queued) ready_.push_back(id);
        schedule_idle(*flow, id);
        break;
      case FlowState::lingering: timers_.schedule(id.index, now_ms_); break;
      case FlowState::resolving:
      case FlowState::handshaking:
      case FlowState::leaving: break;  // never handed over
    }
  }
  if (udp_ != nullptr) udp_->begin_adopted(now_ms_);
}

}  // namespace limpid
