// Exchanges that leave the engine while they live (cut-through). Part of UdpEngine.
//
// States of a session: relayed → (handed over) → spent → gone, where nothing is to be kept: both legs have the same addresses and ports, so whatever
// comes by neither programs nor sockets (fragments, a stranger's answer) is forwarded by the kernel as it is, or begins a session anew. A session that
// is translated keeps its socket instead, and with it its port and the way for everybody else: kept → ended when nothing has passed either way.
//
// A datagram that lies in a socket must not be overtaken by one that is forwarded. So an exchange is handed over in a moment at which its sockets are
// empty; where that moment does not come, kLongestWaitMs later.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "limpid/transparent.h"
#include "net/endpoint.h"
#include "relay/clock.h"
#include "relay/udp_engine.h"

namespace limpid {
namespace {

/// Datagrams of one exchange, in a row, before it is handed over: that costs as much as relaying two or three of them (docs/cut-through.md), and
/// most questions and answers are over by then.
constexpr std::uint16_t kWorthwhile = 8;
/// Of one that has no answer: what goes one way only (logs, media), or is a flood, which the limits of this process are to hold.
constexpr std::uint16_t kWorthwhileUnanswered = 256;
constexpr std::uint64_t kLongestWaitMs = 20;
/// A victim of the limits that is found to be busy elsewhere goes to the end of the queue; so many in a row, and one of them ends nevertheless.
constexpr int kMostSpared = 16;

bool is_worthwhile(const UdpExchange& exchange) noexcept {
  return exchange.asked && exchange.datagrams >= (exchange.answered ? kWorthwhile : kWorthwhileUnanswered);
}

bool holds_datagrams(int fd) noexcept {
  char none = 0;
  return recv(fd, &none, 0, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) >= 0;
}

}  // namespace

void UdpEngine::note(UdpSession& session, const SocketAddress& partner, bool answer, std::size_t datagrams) {
  if (offloader_ == nullptr || session.cut || session.spent || session.stays) return;
  UdpExchange& exchange = session.exchange;
  if (exchange.partner != partner) {
    session.mixed = session.mixed || exchange.asked || exchange.answered;
    exchange = {.partner = partner};
  }
  (answer ? exchange.answered : exchange.asked) = true;
  exchange.datagrams = static_cast<std::uint16_t>(std::min<std::size_t>(exchange.datagrams + datagrams, 0xffff));
  if (session.candidate || !is_worthwhile(exchange)) return;
  session.candidate = true;
  candidates_.push_back({.index = session.index, .generation = session.generation, .since_ms = now_ms_});
}

void UdpEngine::hand_over_candidates() {
  if (offloader_->pauses()) return;
  std::erase_if(candidates_, [this](const Candidate& candidate) {
    UdpSession* session = sessions_.find(candidate.index, candidate.generation);
    if (session == nullptr) return true;
    const bool late = now_ms_ - candidate.since_ms >= kLongestWaitMs;
    if (!late && (listener_busy_ || holds_datagrams(session->fd.get()))) return false;
    session->candidate = false;
    if (is_worthwhile(session->exchange)) hand_over(*session);  // nobody else has come in between
    return true;
  });
}

std::optional<SocketAddress> UdpEngine::source_of(const UdpSession& session, const SocketAddress& target) const {
  auto source = original_destination(session.fd.get());  // getsockname(2)
  if (!source) return std::nullopt;
  if (source->address.is_unspecified()) {
    const auto address = source_towards(target, options_.bypass_mark);
    if (!address) return std::nullopt;
    source->address = *address;
  }
  return *source;
}

/// What rules have said of an exchange; those that they were not asked about have none.
Ruling UdpEngine::ruling_of(const SocketAddress& client, const SocketAddress& destination) {
  const UdpSession* entry = rulings_.find({.client = client, .destination = destination});
  return entry != nullptr ? entry->decided->verdict.ruling : Ruling{};
}

/// The exchange with its latest partner.
void UdpEngine::hand_over(UdpSession& session) {
  if (session.routed_otherwise || session.dns) {
    session.stays = true;
    return offloader_->count_stay(session.dns ? StayReason::dns_answers : StayReason::routed_otherwise);
  }
  const SocketAddress partner = session.exchange.partner;
  const bool own = partner == session.target;
  const SocketAddress destination = own ? session.original_destination : partner;
  const auto source = source_of(session, partner);
  const UdpExchange latest = std::exchange(session.exchange, {});
  if (!source) return;
  const bool translated = *source != session.key.client || destination != partner;
  const bool leaves = !translated && options_.filtering == NatBehavior::endpoint_independent;
  if (!own && !leaves) return;  // translated, such others are told apart by our socket alone
  const bool whole = own && (!session.mixed || !leaves);
  const auto age_ms = static_cast<std::int64_t>(monotonic_ms() - session.started_ms);
  OffloadedSession exchange{.source = *source, .kept = !leaves, .answered = latest.answered, .record = {}};
  exchange.record = {.client = session.key.client,
                     .original_destination = destination,
                     .target = partner,
                     .bytes_up = whole && leaves ? session.bytes_up : 0,
                     .bytes_down = whole && leaves ? session.bytes_down : 0,
                     .started_us = wall_clock_us() - (whole ? age_ms * 1000 : 0),
                     .source = session.source,
                     .protocol = Protocol::udp,
                     .ruling = ruling_of(session.key.client, destination)};
  switch (offloader_->begin(exchange)) {
    case SessionOutcome::stays: session.stays = true; return;
    case SessionOutcome::there_already:
      session.stays = !(whole && leaves);
      if (!session.stays) retire(session);
      return;
    case SessionOutcome::begun: break;
  }
  counters_.add(Counter::udp_cut_through);
  if (!leaves) {
    session.cut = true;
    return;
  }
  offloader_->count_open();
  if (!whole) {  // one of several: the others stay
    counters_.add(Counter::udp_sessions_total);
    return;
  }
  session.bytes_up = session.bytes_down = 0;
  session.counted = false;  // its end is counted where it is now
  retire(session);
}

/// What it still gets belongs to an exchange that is elsewhere.
void UdpEngine::retire(UdpSession& session) {
  session.spent = true;
  session.last_activity_ms = now_ms_;
  schedule(session);
}

/// Somebody else is spoken to: the same socket, and a session of its own.
void UdpEngine::revive(UdpSession& session, const SocketAddress& destination, const SocketAddress& target) {
  give_back_bytes(session);
  if (!session.counted) counters_.add(Counter::udp_sessions_total);
  session.counted = true;
  session.spent = false;
  session.mixed = false;
  session.original_destination = destination;
  session.target = target;
  session.started_ms = now_ms_;
  session.last_activity_ms = now_ms_;
  schedule(session);
}

void UdpEngine::give_back_bytes(UdpSession& session) {
  if (session.bytes_up == 0 && session.bytes_down == 0) return;
  offloader_->offload().add_to_session(session.key.client, session.original_destination,
                                       {.up = session.bytes_up, .down = session.bytes_down});
  session.bytes_up = session.bytes_down = 0;
}

/// Of a session whose socket is kept: when was it last heard of, here or elsewhere?
bool UdpEngine::refresh(UdpSession& session) {
  if (!session.cut) return false;
  const auto traffic = offloader_->offload().session_traffic(session.key.client, session.original_destination);
  if (!traffic) return false;
  if (traffic->answered) sessions_.mark_answered(session);
  const std::uint64_t now = monotonic_ms();
  const std::uint64_t last = now - std::min(now, static_cast<std::uint64_t>(traffic->idle.count()));
  if (last <= session.last_activity_ms) return false;
  sessions_.touch(session, last);
  return true;
}

void UdpEngine::make_room(const IpAddress& client) {
  int spared = 0;
  while (UdpSession* victim = sessions_.victim_for(client)) {
    if (spared++ < kMostSpared && refresh(*victim)) continue;
    counters_.add(Counter::udp_evicted);
    end(*victim, FlowEnd::evicted);
  }
}

/// A port that the kernel takes for free may be that of an exchange that has left.
bool UdpEngine::is_taken(const UniqueFd& leg, const Dial& dial) {
  if (offloader_ == nullptr) return false;
  auto source = original_destination(leg.get());
  if (!source) return false;
  if (source->address.is_unspecified()) {
    if (offloader_->offload().adopted_sessions() == 0) return false;  // ours keep their sockets
    const auto address = source_towards(dial.target, options_.bypass_mark);
    if (!address) return false;
    source->address = *address;
  }
  return offloader_->is_taken(dial.target, *source);
}

}  // namespace limpid
