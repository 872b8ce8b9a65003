// Flows through upstreams: whom to dial, the handshake over the target leg, and whom to try next. Part of Worker.
//
// States: connecting → handshaking → relaying. Until the handshake is over no byte of the client's has left its socket, and none of the
// upstream's that stands behind its answer has left the target leg: so the flow may begin anew with the next upstream, and is then
// relayed, or cut through, like any other.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <new>
#include <tuple>
#include <utility>

#include "relay/clock.h"
#include "relay/flow_end.h"
#include "relay/upstream_leg.h"
#include "relay/upstream_route.h"
#include "relay/worker.h"

namespace limpid {
namespace {

/// Answers are short; what is behind them is only looked at.
constexpr std::size_t kPeekBytes = 512;

std::uint64_t microseconds_since(std::chrono::steady_clock::time_point began) noexcept {
  const auto passed = std::chrono::steady_clock::now() - began;
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(passed).count());
}

/// Ours: whoever uses up descriptors must not take an upstream down for all.
bool is_want_of_resources(int code) noexcept {
  return code == EMFILE || code == ENFILE || code == ENOMEM || code == ENOBUFS || code == EAGAIN;
}

/// Without moving anything: whether the socket has taken all that waits.
enum class Said : std::uint8_t { all, blocked, failed };

Said say(Handshake& handshake, Leg& leg) noexcept {
  while (!handshake.waiting().empty()) {
    const auto waiting = handshake.waiting();
    const ssize_t sent = send(leg.fd.get(), waiting.data(), waiting.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      handshake.sent(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      leg.writable = false;
      return Said::blocked;
    } else if (errno != EINTR) {
      return Said::failed;
    }
  }
  return Said::all;
}

}  // namespace

/// A flow that exists already, in whatever way, goes on to its target.
void Worker::start_dialling(Flow& flow, FlowId id, const Dial& wanted, std::string_view name) {
  if (wanted.upstream != 0) {
    try {
      flow.upstream = std::make_unique<UpstreamRoute>(
          UpstreamRoute{.group = options_.upstreams->at(wanted.upstream), .wanted = wanted, .name = std::string(name)});
    } catch (const std::bad_alloc&) {
      return end_flow(flow, id, FlowEnd::error, Closing::with_reset);
    }
    return dial_upstream(flow, id);
  }
  Dial dial = wanted;
  auto leg = call_first_possible(dial, {.fd = flow.client.fd.get(), .address = flow.client_address}, flow.attempts);
  if (!leg) return end_flow(flow, id, connect_failure(leg.error().code), Closing::with_reset);
  take_leg(flow, id, std::move(*leg), dial.target);
}

void Worker::take_leg(Flow& flow, FlowId id, TargetLeg leg, const SocketAddress& target) {
  flow.target = {.fd = std::move(leg.fd), .encrypted = leg.encrypted};
  flow.target_address = target;
  flow.source = leg.source;
  flow.routed_otherwise = leg.routed_otherwise;
  flow.sent_with_syn = leg.sent_with_syn;
  flow.state = FlowState::connecting;
  flow.dialled_us = monotonic_us_low();
  const auto patience = flow.upstream ? flow.upstream->group.options().timeout : options_.timeouts.connect;
  flow.give_up_ms = now_ms_ + static_cast<std::uint64_t>(patience.count());
  if (!watch(flow, id, true)) return end_flow(flow, id, FlowEnd::error, Closing::with_reset);
  timers_.schedule(id.index, flow.give_up_ms);
}

void Worker::dial_upstream(Flow& flow, FlowId id) {
  UpstreamRoute& route = *flow.upstream;
  const ClientSide client{.fd = flow.client.fd.get(), .address = flow.client_address};
  for (;;) {
    const auto member = route.group.choose({.client = flow.client_address.address,
                                            .destination = route.wanted.target,
                                            .has_name = !route.name.empty(),
                                            .tried = route.tried},
                                           now_ms_);
    if (!member) return go_without_upstream(flow, id);
    route.member = member;
    route.server = route.group.server(*member);
    if (route.tried != 0) counters_.add(Counter::upstream_failovers);
    route.tried |= 1U << *route.member;
    ++flow.attempts;
    const Upstream& upstream = route.group.member(*route.member);
    if (route.group.via() != nullptr) {
      route.hops_tried = 0;
      if (dial_hop(flow, id)) return;
      continue;
    }
    const Dial dial = dial_through(upstream, route.server, route.wanted, flow.client_address);
    if (options_.policy->is_own_listener(dial.target)) {
      route.failure = FlowEnd::refused_self;
      continue;
    }
    route.began = std::chrono::steady_clock::now();
    auto leg = open_leg(dial, client, &upstream);
    if (leg) return take_leg(flow, id, std::move(*leg), dial.target);
    if (is_want_of_resources(leg.error().code)) return end_flow(flow, id, FlowEnd::error, Closing::with_reset);
    if (note_upstream_failure(flow, connect_failure(leg.error().code))) continue;
    return end_flow(flow, id, route.failure, Closing::with_reset);
  }
}

/// The first link of a chain, on the way to the member that was chosen. False where none is left.
bool Worker::dial_hop(Flow& flow, FlowId id) {
  UpstreamRoute& route = *flow.upstream;
  UpstreamGroup& hops = *route.group.via();
  route.at_hop = true;
  for (;;) {
    const auto hop = hops.choose({.client = flow.client_address.address,
                                  .destination = route.server->address,
                                  .has_name = is_named(route.group.member(*route.member)),
                                  .tried = route.hops_tried},
                                 now_ms_);
    if (!hop) {
      // Nobody has asked that member for anything, so it is not to blame.
      if (route.hops_tried == 0) route.failure = FlowEnd::upstream_down;
      route.destination_failed = false;
      return false;
    }
    if (route.hops_tried != 0) counters_.add(Counter::upstream_failovers);
    route.hop = hop;
    route.hops_tried |= 1U << *hop;
    const Dial dial = dial_through(hops.member(*hop), hops.server(*hop), route.wanted, flow.client_address);
    if (options_.policy->is_own_listener(dial.target)) continue;
    route.began = std::chrono::steady_clock::now();
    auto leg = open_leg(dial, {.fd = flow.client.fd.get(), .address = flow.client_address}, &hops.member(*hop));
    if (leg) {
      take_leg(flow, id, std::move(*leg), dial.target);
      return true;
    }
    note_hop_failure(flow, FlowEnd::upstream_failed, /*at_fault=*/!is_want_of_resources(leg.error().code));
  }
}

void Worker::note_hop_failure(Flow& flow, FlowEnd end, bool at_fault) {
  UpstreamRoute& route = *flow.upstream;
  if (at_fault) route.group.via()->failed(*route.hop, now_ms_);
  route.failure = end;
  route.destination_failed = false;
}

/// Another way to the same member, or another member.
void Worker::dial_next_hop(Flow& flow, FlowId id) {
  if (!dial_hop(flow, id)) dial_upstream(flow, id);
}

/// The whole group is down, for this flow at least: what was declared for that.
void Worker::go_without_upstream(Flow& flow, FlowId id) {
  UpstreamRoute& route = *flow.upstream;
  // Who is sent by name is not to end where his client says that the name is.
  if (route.destination_failed || route.group.options().down == GroupDown::reject || !route.name.empty()) {
    return end_flow(flow, id, route.failure, Closing::with_reset);
  }
  route.direct = true;
  counters_.add(Counter::upstream_direct);
  auto leg = open_leg(route.wanted, {.fd = flow.client.fd.get(), .address = flow.client_address});
  if (!leg) return end_flow(flow, id, connect_failure(leg.error().code), Closing::with_reset);
  take_leg(flow, id, std::move(*leg), route.wanted.target);
}

/// Of a connection that was not made. False where another upstream would not do better.
bool Worker::note_upstream_failure(Flow& flow, FlowEnd end) {
  UpstreamRoute& route = *flow.upstream;
  if (route.server != nullptr) {
    route.group.failed(*route.member, now_ms_);
    route.failure = end == FlowEnd::connect_timeout ? FlowEnd::upstream_timeout : FlowEnd::upstream_failed;
    route.destination_failed = false;
    return true;
  }
  // The destination itself was dialled.
  route.failure = end;
  route.destination_failed = true;
  return end != FlowEnd::connect_refused;
}

void Worker::try_next_upstream(Flow& flow, FlowId id, FlowEnd end) {
  if (flow.upstream->direct) return end_flow(flow, id, end, Closing::with_reset);
  if (flow.upstream->at_hop) {
    const bool timeout = end == FlowEnd::connect_timeout;
    note_hop_failure(flow, timeout ? FlowEnd::upstream_timeout : FlowEnd::upstream_failed, /*at_fault=*/true);
    return dial_next_hop(flow, id);
  }
  if (!note_upstream_failure(flow, end)) return end_flow(flow, id, end, Closing::with_reset);
  dial_upstream(flow, id);
}

/// The target leg is connected. True while there is something to be said over it first.
bool Worker::begin_handshake(Flow& flow, FlowId id) {
  UpstreamRoute& route = *flow.upstream;
  if (route.direct) return false;
  route.connected_us = microseconds_since(route.began);
  HandshakeRequest request{.client = flow.client_address,
                           .destination = route.wanted.target,
                           .name = route.name,
                           .by_name = !route.name.empty()};
  const Upstream& member = route.group.member(*route.member);
  if (route.at_hop) {
    request.destination = route.server->address;
    request.name = is_named(member) ? std::string_view(member.host) : std::string_view();
    request.by_name = false;
  }
  try {
    route.handshake.emplace(route.at_hop ? route.group.via()->member(*route.hop) : member, request);
  } catch (const std::bad_alloc&) {
    end_flow(flow, id, FlowEnd::error, Closing::with_reset);
    return true;
  }
  flow.state = FlowState::handshaking;
  flow.give_up_ms = now_ms_ + static_cast<std::uint64_t>(route.group.options().timeout.count());
  timers_.schedule(id.index, flow.give_up_ms);
  shake_hands(flow, id);
  return true;
}

void Worker::shake_hands(Flow& flow, FlowId id) {
  Handshake& handshake = *flow.upstream->handshake;
  Leg& leg = flow.target;
  for (;;) {
    const Said said = say(handshake, leg);
    if (said == Said::failed) return end_handshake(flow, id, HandshakeState::running, FlowEnd::upstream_failed);
    if (handshake.state() != HandshakeState::running) {
      return end_handshake(flow, id, handshake.state(), FlowEnd::upstream_failed);
    }
    if (!leg.readable) return;
    std::array<std::byte, kPeekBytes> bytes;
    const ssize_t there = recv(leg.fd.get(), bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
    if (there < 0 && errno == EINTR) continue;
    if (there < 0 && errno == EAGAIN) {
      leg.readable = false;
      return;
    }
    if (there <= 0) return end_handshake(flow, id, HandshakeState::running, FlowEnd::upstream_failed);
    const std::size_t taken = handshake.take(std::span(bytes).first(static_cast<std::size_t>(there)));
    if (taken == 0) return;  // it has not been heard yet, and is answered already: the flow's
    std::ignore = recv(leg.fd.get(), bytes.data(), taken,
                       MSG_DONTWAIT);  // MSG_TRUNC is TCP's alone; this may be the plain end of TLS
  }
}

void Worker::expire_handshake(Flow& flow, FlowId id) {
  end_handshake(flow, id, HandshakeState::running, FlowEnd::upstream_timeout);
}

/// `state` running: it was broken off, and `end` says how.
void Worker::end_handshake(Flow& flow, FlowId id, HandshakeState state, FlowEnd end) {
  UpstreamRoute& route = *flow.upstream;
  if (route.at_hop) return end_hop(flow, id, state, end);
  const unsigned member = *route.member;
  const bool has_server = route.server != nullptr;
  const bool past_upstream = route.handshake->is_past_upstream();
  route.handshake.reset();
  route.destination_failed = false;
  bool at_fault = is_fault_of_upstream(state);
  switch (state) {
    case HandshakeState::done:
      route.group.succeeded(member, route.connected_us);
      route.group.count_flow(member);
      return start_relaying(flow, id);
    case HandshakeState::refused:
      // Nobody listens there, and the client is to hear that.
      return end_flow(flow, id, FlowEnd::connect_refused, Closing::with_reset);
    case HandshakeState::unreachable:
      route.failure = FlowEnd::connect_unreachable;
      route.destination_failed = true;
      break;
    case HandshakeState::denied:
    case HandshakeState::rejected:
      route.failure = FlowEnd::upstream_refused;
      route.destination_failed = true;
      break;
    case HandshakeState::unauthorized:
    case HandshakeState::malformed: route.failure = FlowEnd::upstream_failed; break;
    case HandshakeState::running:
      // A client could take an upstream down for all others by asking for a destination that answers nobody.
      at_fault = !past_upstream;
      route.failure = end;
      break;
  }
  if (has_server && at_fault) route.group.failed(member, now_ms_);
  dial_upstream(flow, id);
}

/// What comes now is the member's; so is the fault if it does not succeed.
void Worker::encrypt_behind_hop(Flow& flow, FlowId id) {
  UpstreamRoute& route = *flow.upstream;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, flow.target.fd.get(), nullptr);  // it lives on, with somebody else
  auto leg = encrypt({.fd = std::move(flow.target.fd),
                      .source = flow.source,
                      .routed_otherwise = flow.routed_otherwise,
                      .sent_with_syn = flow.sent_with_syn},
                     route.group.member(*route.member));
  if (!leg) return end_flow(flow, id, FlowEnd::error, Closing::with_reset);
  take_leg(flow, id, std::move(*leg), flow.target_address);
}

/// The same for the first link of a chain. What it was asked for is not a client's choice but one of ours: whoever does not answer is to blame.
void Worker::end_hop(Flow& flow, FlowId id, HandshakeState state, FlowEnd end) {
  UpstreamRoute& route = *flow.upstream;
  const bool past_hop = route.handshake->is_past_upstream();
  route.handshake.reset();
  switch (state) {
    case HandshakeState::done:
      route.group.via()->succeeded(*route.hop, route.connected_us);
      route.group.via()->count_flow(*route.hop);
      route.at_hop = false;
      // What the member's own connection takes includes the way there, and begins here.
      if (route.group.member(*route.member).tls.used) return encrypt_behind_hop(flow, id);
      std::ignore = begin_handshake(flow, id);
      return;
    case HandshakeState::refused:
    case HandshakeState::unreachable:
      // The hop works, and says that the member does not.
      route.group.failed(*route.member, now_ms_);
      route.failure = FlowEnd::upstream_failed;
      return dial_upstream(flow, id);
    case HandshakeState::denied:
    case HandshakeState::rejected: note_hop_failure(flow, FlowEnd::upstream_refused, /*at_fault=*/false); break;
    case HandshakeState::unauthorized:
    case HandshakeState::malformed: note_hop_failure(flow, FlowEnd::upstream_failed, /*at_fault=*/true); break;
    case HandshakeState::running: note_hop_failure(flow, end, !past_hop); break;
  }
  dial_next_hop(flow, id);
}

}  // namespace limpid
