// Datagrams and rules: what was decided for a client and a destination is remembered for as long as they talk. Part of UdpEngine.
//
// A decision that depends on first bytes looks at the first datagram, and at those that follow where a QUIC handshake needs several. Those are held, in order, within bounds of
// number, bytes and time; then all are sent on, or none is. Past a bound the decision is made as for bytes that are unknown. DNS is decided about question by question,
// because one socket asks for many names.
#include <new>
#include <utility>

#include "net/packet.h"
#include "relay/clock.h"
#include "relay/flow_end.h"
#include "relay/udp_engine.h"

namespace limpid {
namespace {

/// Of one worker: for handshakes in several datagrams, each of which needs some 12 KiB.
constexpr std::size_t kMostHeldBytes = std::size_t{16} << 20U;

FlowKey flow_key(const UdpSessionKey& key) noexcept {
  return {.client = key.client, .original_destination = key.destination};
}

}  // namespace

void UdpEngine::ask_rules(std::span<const ReceivedDatagram> run) {
  const auto& first = run.front();
  UdpSession* entry = rulings_.find({.client = first.peer, .destination = *first.original_destination});
  if (entry != nullptr && entry->decided->void_from_ms <= now_ms_) {
    forget(*entry);
    entry = nullptr;
  }
  if (entry == nullptr) entry = begin_ruling(first);
  if (entry == nullptr) return counters_.add(Counter::udp_dropped, run.size());
  rulings_.touch(*entry, now_ms_);
  UdpRuling& ruling = *entry->decided;
  while (!run.empty() && ruling.state != UdpRuling::State::decided) {
    if (ruling.state == UdpRuling::State::each_by_itself) {
      decide_alone(*entry, run.front());
    } else if (ruling.state == UdpRuling::State::resolving) {
      hold_for_name(ruling, run.front());
    } else {
      look(*entry, run.front());
    }
    run = run.subspan(1);
  }
  if (!run.empty()) obey(*entry, run, ruling.verdict);
}

/// nullptr: no memory.
UdpSession* UdpEngine::begin_ruling(const ReceivedDatagram& first) {
  const UdpSessionKey key{.client = first.peer, .destination = *first.original_destination};
  while (UdpSession* victim = rulings_.victim_for(key.client.address)) forget(*victim);
  try {
    auto ruling = std::make_unique<UdpRuling>();
    ruling->origin = {.interface = first.interface, .traffic_class = first.fields.traffic_class};
    ruling->verdict = decider_.decide(Transport::udp, flow_key(key), ruling->origin);
    const bool looks = ruling->verdict.action == FlowVerdict::Action::look;
    ruling->state = looks ? UdpRuling::State::looking : UdpRuling::State::decided;
    UdpSession& entry = rulings_.create(key);
    entry.decided = std::move(ruling);
    entry.original_destination = key.destination;
    entry.started_ms = entry.last_activity_ms = now_ms_;
    const auto patience = looks ? options_.timeouts.sniff : options_.timeouts.answered;
    ruling_timers_.schedule(entry.index, now_ms_ + static_cast<std::uint64_t>(patience.count()));
    if (looks) {
      counters_.add(Counter::sniffed);
    } else {
      record_refusal(entry, entry.decided->verdict);
    }
    return &entry;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void UdpEngine::look(UdpSession& entry, const ReceivedDatagram& datagram) {
  UdpRuling& ruling = *entry.decided;
  Sniffed sniffed;
  SniffOutcome outcome = SniffOutcome::unknown;
  if (ruling.quic) {
    outcome = ruling.quic->take(*quic_crypto_, datagram.payload, sniffed);
  } else {
    outcome = sniff_datagram(datagram.payload, sniffed);
    if (outcome == SniffOutcome::more) {
      first_look_ = QuicSniffer();
      outcome = first_look_.take(*quic_crypto_, datagram.payload, sniffed);
    }
  }
  if (outcome == SniffOutcome::more && hold(ruling, datagram)) return;
  const bool is_dns = outcome == SniffOutcome::found && sniffed.protocol == SniffedProtocol::dns;
  decide(entry, outcome, sniffed);
  if (is_dns) ruling.state = UdpRuling::State::each_by_itself;
  if (ruling.state == UdpRuling::State::resolving) return hold_for_name(ruling, datagram);
  obey(entry, {&datagram, 1}, ruling.verdict);
}

/// A copy, until more is known. False: there is no room.
bool UdpEngine::hold(UdpRuling& ruling, const ReceivedDatagram& datagram) {
  const std::size_t bytes = datagram.payload.size() + (ruling.quic ? 0 : sizeof(QuicSniffer));
  if (held_bytes_ + bytes > kMostHeldBytes) return false;
  try {
    if (!ruling.quic) ruling.quic = std::make_unique<QuicSniffer>(first_look_);
    ruling.held.push_back({.payload = {datagram.payload.begin(), datagram.payload.end()}, .fields = datagram.fields});
  } catch (const std::bad_alloc&) {
    return false;
  }
  ruling.held_bytes += bytes;
  held_bytes_ += bytes;
  return true;
}

/// The end of looking, but for where a name leads.
void UdpEngine::decide(UdpSession& entry, SniffOutcome outcome, const Sniffed& sniffed) {
  UdpRuling& ruling = *entry.decided;
  if (outcome != SniffOutcome::found) counters_.add(Counter::sniffed_unknown);
  ruling.verdict =
      decider_.decide(Transport::udp, flow_key(entry.key), ruling.origin, outcome, sniffed, ruling.verdict.ruling);
  if (ruling.verdict.ruling.has_hint()) counters_.add(Counter::names_hinted);
  if (!awaits_name(entry)) conclude(entry);
}

/// What was held goes first.
void UdpEngine::conclude(UdpSession& entry) {
  UdpRuling& ruling = *entry.decided;
  ruling.state = UdpRuling::State::decided;
  ruling.quic.reset();
  held_bytes_ -= std::exchange(ruling.held_bytes, 0);
  record_refusal(entry, ruling.verdict);
  ruling_timers_.schedule(entry.index, now_ms_ + static_cast<std::uint64_t>(options_.timeouts.answered.count()));
  const auto held = std::exchange(ruling.held, {});
  for (const HeldDatagram& each : held) {
    const ReceivedDatagram datagram{.peer = entry.key.client,
                                    .original_destination = entry.key.destination,
                                    .payload = each.payload,
                                    .fields = each.fields};
    obey(entry, {&datagram, 1}, ruling.verdict);
  }
}

void UdpEngine::decide_alone(UdpSession& entry, const ReceivedDatagram& datagram) {
  Sniffed sniffed;
  const auto outcome = sniff_datagram(datagram.payload, sniffed);
  counters_.add(Counter::sniffed);
  if (outcome != SniffOutcome::found) counters_.add(Counter::sniffed_unknown);
  const UdpRuling& ruling = *entry.decided;
  const FlowVerdict verdict =
      decider_.decide(Transport::udp, flow_key(entry.key), ruling.origin, outcome, sniffed, ruling.verdict.ruling);
  record_refusal(entry, verdict);
  obey(entry, {&datagram, 1}, verdict);
}

void UdpEngine::obey(UdpSession& entry, std::span<const ReceivedDatagram> run, const FlowVerdict& verdict) {
  switch (verdict.action) {
    case FlowVerdict::Action::relay: {
      UdpSession* session = relay(run, verdict);
      // What left us could not be decided about question by question.
      if (session != nullptr && entry.decided->state == UdpRuling::State::each_by_itself) session->stays = true;
      // Somebody answers: room for others is made elsewhere first.
      if (session != nullptr && session->answered) rulings_.mark_answered(entry);
      return;
    }
    case FlowVerdict::Action::reject:
      for (const auto& datagram : run) {
        report(port_unreachable(entry.key.client.family()), entry.key.client, entry.key.destination, datagram);
      }
      return;
    case FlowVerdict::Action::refuse: return count_end(counters_, refusal_end(verdict.refusal), run.size());
    case FlowVerdict::Action::drop:
    case FlowVerdict::Action::look: return;
  }
}

/// One line and one count for each flow, however many datagrams it sends in vain.
void UdpEngine::record_refusal(const UdpSession& entry, const FlowVerdict& verdict) {
  const bool by_name = verdict.action == FlowVerdict::Action::refuse && entry.decided->void_from_ms != UINT64_MAX;
  if (verdict.action != FlowVerdict::Action::reject && verdict.action != FlowVerdict::Action::drop && !by_name) return;
  const FlowEnd end = verdict.action == FlowVerdict::Action::drop ? FlowEnd::dropped : end_of(verdict);
  if (!by_name) count_end(counters_, end);  // those are counted by their datagrams, as everywhere
  emit_({.client = entry.key.client,
         .original_destination = entry.key.destination,
         .target = {},
         .started_us = wall_clock_us(),
         .protocol = Protocol::udp,
         .end = end,
         .ruling = verdict.ruling});
}

void UdpEngine::expire_rulings() {
  expired_.clear();
  ruling_timers_.advance(now_ms_, expired_);
  for (const auto index : expired_) {
    UdpSession* entry = rulings_.at(index);
    if (entry == nullptr) continue;
    if (entry->decided->state == UdpRuling::State::looking) {
      decide(*entry, SniffOutcome::more, {});
      continue;
    }
    if (entry->decided->state == UdpRuling::State::resolving) {
      give_up_name(*entry);
      continue;
    }
    const auto until = entry->last_activity_ms + static_cast<std::uint64_t>(options_.timeouts.answered.count());
    if (until <= now_ms_) {
      forget(*entry);
    } else {
      ruling_timers_.schedule(index, until);
    }
  }
}

/// What is held is not lost: it is decided about with what is known.
void UdpEngine::forget(UdpSession& entry) {
  if (entry.decided->state == UdpRuling::State::looking) decide(entry, SniffOutcome::more, {});
  if (entry.decided->state == UdpRuling::State::resolving) give_up_name(entry);
  ruling_timers_.cancel(entry.index);
  rulings_.destroy(entry);
}

/// Tables grow while an audit goes on: what is looked at twice, or was not there, has met the rules of now.
bool UdpEngine::end_if_forbidden(std::uint32_t slot) {
  const std::uint32_t rulings = rulings_.capacity();
  return slot < rulings ? end_ruling_if_forbidden(slot) : end_cut_if_forbidden(slot - rulings);
}

/// An exchange that shares its client's session with others leaves it to them: its next datagram is refused.
bool UdpEngine::end_ruling_if_forbidden(std::uint32_t index) {
  UdpSession* entry = rulings_.at(index);
  if (entry == nullptr || entry->decided->state != UdpRuling::State::decided ||
      entry->decided->verdict.action != FlowVerdict::Action::relay)
    return false;
  const UdpSessionKey key = entry->key;
  const auto rule =
      decider_.forbidden_by(Transport::udp, flow_key(key), entry->decided->verdict.ruling, &entry->decided->origin);
  if (!rule) return false;
  forget(*entry);
  UdpSession* session = sessions_.find(key);
  if (session == nullptr) session = sessions_.find({.client = key.client, .destination = {}});
  if (session == nullptr) return false;  // it has ended, or is elsewhere and counted there
  if (session->original_destination != key.destination)
    return offloader_ == nullptr || !offloader_->is_taken(key.client, key.destination);
  session->ruling.rule = *rule;
  const bool is_here = !session->spent;  // else it is counted where it has gone
  end(*session, FlowEnd::rejected);
  return is_here;
}

/// A session whose datagrams are forwarded past us outlives what was remembered of its ruling.
bool UdpEngine::end_cut_if_forbidden(std::uint32_t index) {
  UdpSession* session = sessions_.at(index);
  if (session == nullptr || !session->cut || session->spent) return false;
  const auto rule = decider_.forbidden_by(
      Transport::udp, {.client = session->key.client, .original_destination = session->original_destination},
      session->ruling, nullptr);
  if (!rule) return false;
  session->ruling.rule = *rule;
  end(*session, FlowEnd::rejected);
  return true;
}

}  // namespace limpid
