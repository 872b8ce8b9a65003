// The walk of a datagram: receive → original destination → session → target leg; and back through the raw sender.
#include "relay/udp_engine.h"

#include <sys/epoll.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

#include "limpid/transparent.h"
#include "net/endpoint.h"
#include "net/packet.h"
#include "relay/clock.h"
#include "relay/flow_end.h"

namespace limpid {
namespace {

/// Batches from one target leg in one turn; then others have theirs.
constexpr int kBatchesPerTurn = 4;
/// A port that is taken is rare.
constexpr int kMostPorts = 8;
/// Of a session that has left: what was on its way to its socket arrives in a fraction of this.
constexpr std::chrono::milliseconds kSpent{100};
/// Targets that address-and-port-dependent filtering remembers for one session; the oldest is forgotten first.
constexpr std::size_t kMostContacted = 64;
/// A client speaks to several destinations in one session.
constexpr std::size_t kRulingsForSession = 4;

std::uint64_t random_seed() noexcept {
  std::uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed ^= static_cast<std::uint64_t>(::time(nullptr));
  return seed;
}

/// generation (odd) | slot; listeners have generation 0.
std::uint64_t event_data(const UdpSession& session) noexcept {
  return (std::uint64_t{session.generation} << 32U) | session.index;
}

/// As a router would: one hop less. Zero means that the datagram has travelled far enough.
HopFields one_hop_further(const HopFields& fields) noexcept {
  return {.ttl = static_cast<std::uint8_t>(fields.ttl - std::min<std::uint8_t>(fields.ttl, 1)),
          .traffic_class = fields.traffic_class};
}

}  // namespace

Result<std::unique_ptr<UdpEngine>> UdpEngine::create(const UdpOptions& options, std::vector<UniqueFd> listeners,
                                                     Counters& counters, Emit emit, const UdpHandOver& hand_over) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return system_error(errno, "create epoll", "");
  std::unique_ptr<UdpEngine> engine(new UdpEngine(options, std::move(epoll), counters, std::move(emit)));
  if (options.rules) {
    auto crypto = QuicCrypto::open();
    if (!crypto) return std::unexpected(crypto.error());
    engine->quic_crypto_ = std::move(*crypto);
  }
  for (auto& listener : listeners) {
    const auto bound = original_destination(listener.get());
    if (!bound) return std::unexpected(bound.error());
    auto sender = RawSender::open(bound->family(), options.answer_mark);
    if (!sender) return std::unexpected(sender.error());
    (bound->family() == Family::ipv4 ? engine->sender_ipv4_ : engine->sender_ipv6_) = std::move(*sender);
    epoll_event event{.events = EPOLLIN, .data = {.u64 = engine->listeners_.size()}};
    if (epoll_ctl(engine->epoll_.get(), EPOLL_CTL_ADD, listener.get(), &event) != 0) {
      return system_error(errno, "watch UDP listener", "");
    }
    engine->listeners_.push_back(std::move(listener));
  }
  if (hand_over.offload != nullptr) {
    auto offloader = DatagramOffloader::create(hand_over);
    if (!offloader) return std::unexpected(offloader.error());
    engine->offloader_ = std::move(*offloader);
  }
  return engine;
}

UdpEngine::UdpEngine(const UdpOptions& options, UniqueFd epoll, Counters& counters, Emit emit)
    : options_(options),
      epoll_(std::move(epoll)),
      icmp_limit_(read_icmp_intervals(), random_seed()),
      counters_(counters),
      emit_(std::move(emit)),
      sessions_(options.limits, random_seed()),
      timers_(monotonic_ms()),
      decider_(options.policy, options.rules, options.hints),
      rulings_({.total = options.limits.total * kRulingsForSession,
                .per_source = options.limits.per_source * kRulingsForSession},
               random_seed()),
      ruling_timers_(monotonic_ms()) {}

int UdpEngine::wait_ms(std::uint64_t now_ms) const noexcept {
  const int session = timers_.wait_ms(now_ms);
  const int ruling = ruling_timers_.wait_ms(now_ms);
  return session < 0 || (ruling >= 0 && ruling < session) ? ruling : session;
}

void UdpEngine::run(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  listener_busy_ = false;
  std::array<epoll_event, 64> events{};
  const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const auto& event = events[static_cast<std::size_t>(i)];
    const auto generation = static_cast<std::uint32_t>(event.data.u64 >> 32U);
    const auto index = static_cast<std::uint32_t>(event.data.u64 & ~kControlBit);
    if (generation == 0) {
      if (index < listeners_.size()) receive_from_clients(listeners_[index].get());
      continue;
    }
    UdpSession* session = sessions_.find(index, generation);
    if (session == nullptr) continue;
    if ((event.data.u64 & kControlBit) != 0) {
      if (session->association != nullptr && session->association->control.valid()) serve_control(*session);
      continue;
    }
    if ((event.events & EPOLLERR) != 0) pass_on_errors(*session);
    if ((event.events & EPOLLIN) != 0) receive_from_targets(*session);
  }
  if (!candidates_.empty()) hand_over_candidates();
  expired_.clear();
  timers_.advance(now_ms_, expired_);
  for (const auto index : expired_) {
    UdpSession* session = sessions_.at(index);
    if (session == nullptr) continue;
    if (deadline_ms(*session) > now_ms_) {
      schedule(*session);
    } else if (session->association != nullptr && session->association->handshake) {
      fail_association(*session, !session->association->handshake->is_past_upstream());
    } else if (refresh(*session)) {
      schedule(*session);
    } else {
      end(*session, session->answered ? FlowEnd::closed : FlowEnd::unanswered);
    }
  }
  expire_rulings();
}

void UdpEngine::receive_from_clients(int listener) {
  // One batch a turn: in a flood each datagram opens a session, and the TCP flows of this worker must not wait for hundreds.
  auto datagrams = batch_.receive(listener);
  if (datagrams.size() == DatagramBatch::kMost) listener_busy_ = true;
  // Neighbours that go the same way are sent together: a bulk transfer comes in such runs.
  while (!datagrams.empty()) {
    const auto& first = datagrams.front();
    std::size_t length = 1;
    while (length < datagrams.size() && datagrams[length].peer == first.peer &&
           datagrams[length].original_destination == first.original_destination &&
           datagrams[length].fields == first.fields) {
      ++length;
    }
    send_up(datagrams.first(length));
    datagrams = datagrams.subspan(length);
  }
}

void UdpEngine::send_up(std::span<const ReceivedDatagram> run) {
  const auto& first = run.front();
  if (!first.original_destination) return counters_.add(Counter::refused_direct, run.size());
  if (decider_.has_rules()) return ask_rules(run);
  const auto verdict =
      decider_.decide(Transport::udp, {.client = first.peer, .original_destination = *first.original_destination}, {});
  if (verdict.action != FlowVerdict::Action::relay)
    return count_end(counters_, refusal_end(verdict.refusal), run.size());
  relay(run, verdict);
}

/// nullptr: not relayed.
UdpSession* UdpEngine::relay(std::span<const ReceivedDatagram> run, const FlowVerdict& verdict) {
  const auto& first = run.front();
  const auto fields = one_hop_further(first.fields);
  if (fields.ttl == 0) {
    counters_.add(Counter::udp_ttl_expired, run.size());
    for (const auto& datagram : run)
      report(time_exceeded(first.peer.family()), first.peer, *first.original_destination, datagram);
    return nullptr;
  }
  if (verdict.dial.upstream != 0 && send_by_upstream(run, verdict)) return nullptr;
  UdpSession* session = find_or_open(first, verdict);
  if (session == nullptr) {
    counters_.add(Counter::udp_dropped, run.size());
    return nullptr;
  }
  if (session->spent && verdict.dial.target != session->target)
    revive(*session, *first.original_destination, verdict.dial.target);
  if (reads_dns(*first.original_destination)) note_questions(*session, run, verdict.dial.target);

  payloads_.clear();
  std::uint64_t bytes = 0;
  for (const auto& datagram : run) payloads_.push_back(datagram.payload);
  const std::size_t sent = send_datagrams(session->fd.get(), verdict.dial.target, fields, payloads_);
  for (std::size_t i = 0; i < sent; ++i) bytes += payloads_[i].size();
  session->bytes_up += bytes;
  counters_.add(Counter::bytes_up, bytes);
  counters_.add(Counter::udp_datagrams_up, sent);
  if (sent < run.size()) counters_.add(Counter::udp_dropped, run.size() - sent);
  sessions_.touch(*session, now_ms_);
  note(*session, verdict.dial.target, false, sent);
  return session;
}

UdpSessionKey UdpEngine::key_of(const ReceivedDatagram& datagram, bool own_session) const noexcept {
  // With one fixed target for all destinations, only a session of its own tells in whose name the target's answers go
  // back.
  const bool by_client = options_.mapping == NatBehavior::endpoint_independent && !own_session;
  return {.client = datagram.peer, .destination = by_client ? SocketAddress{} : *datagram.original_destination};
}

UdpSession* UdpEngine::find_or_open(const ReceivedDatagram& datagram, const FlowVerdict& verdict) {
  const auto key = key_of(datagram, verdict.own_session);
  const Dial& dial = verdict.dial;
  UdpSession* session = sessions_.find(key);
  try {
    if (session == nullptr) session = open(key, datagram, verdict);
    if (session != nullptr) note_contact(*session, dial.target);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return session;
}

void UdpEngine::note_contact(UdpSession& session, const SocketAddress& target) {
  // Rules may send one client's questions to several targets.
  const bool another_target = session.fixed_target && target != session.target;
  if (options_.filtering == NatBehavior::endpoint_independent && !another_target) return;
  auto& contacted = session.contacted;
  if (std::ranges::find(contacted, target) != contacted.end()) return;
  if (contacted.size() == kMostContacted) contacted.erase(contacted.begin());
  contacted.push_back(target);
}

UdpSession* UdpEngine::open(const UdpSessionKey& key, const ReceivedDatagram& datagram, const FlowVerdict& verdict) {
  make_room(key.client.address);
  SourceMode source = SourceMode::none;
  Dial dial = verdict.dial;
  // Beside the client's session with everybody else, which may have the port: answers would come to either.
  if (verdict.ruling.rule != 0 && (verdict.fixed_target || dial.leg) && dial.source == SourceMode::prefer_port)
    dial.source = SourceMode::address;
  auto fd = open_leg(dial, key.client, source);
  for (int tries = 1; fd && tries < kMostPorts && source != SourceMode::address_and_port && is_taken(*fd, dial);
       ++tries) {
    // The first one is closed only when the second is made, which so gets another port.
    auto another = open_leg(dial, key.client, source);
    fd = std::move(another);
  }
  if (!fd) {
    const bool unavailable = fd.error().code == EADDRINUSE || fd.error().code == EADDRNOTAVAIL;
    counters_.add(unavailable ? Counter::source_unavailable : Counter::connect_failed);
    return nullptr;
  }
  UdpSession& session = sessions_.create(key);
  session.fd = std::move(*fd);
  session.original_destination = *datagram.original_destination;
  session.target = dial.target;
  session.source = source;
  session.fixed_target = verdict.fixed_target;
  session.ruling = verdict.ruling;
  session.routed_otherwise = dial.leg && dial.leg->routes_otherwise();
  session.started_ms = session.last_activity_ms = now_ms_;
  epoll_event event{.events = EPOLLIN, .data = {.u64 = event_data(session)}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session.fd.get(), &event) != 0) {
    sessions_.destroy(session);
    return nullptr;
  }
  counters_.add(Counter::udp_sessions_total);
  // Something of an exchange that is forwarded past us, which only a socket can do: fragments.
  session.spent = offloader_ != nullptr && offloader_->is_taken(key.client, session.original_destination);
  schedule(session);
  return &session;
}

Result<UniqueFd> UdpEngine::open_leg(const Dial& dial, const SocketAddress& client, SourceMode& source) {
  DatagramSocketOptions leg{
      .source = std::nullopt, .peer = std::nullopt, .family = dial.target.family(), .mark = options_.bypass_mark};
  if (dial.leg) {
    leg.mark |= dial.leg->mark;
    leg.interface = dial.leg->interface;
    if (const auto& own = dial.leg->source(dial.target.family())) {
      leg.source = SocketAddress{.address = *own, .port = {}};
      return open_datagram_socket(leg);
    }
  }
  const bool foreign = dial.source != SourceMode::none && !client.address.is_link_local();
  if (!foreign) {
    if (dial.source_family_differs || dial.source != SourceMode::none) counters_.add(Counter::source_fallback_none);
    return open_datagram_socket(leg);
  }
  const bool wants_port = dial.source != SourceMode::address;
  leg.source = client;
  if (!wants_port) leg.source->port = {};
  auto fd = open_datagram_socket(leg);
  source = wants_port ? SourceMode::address_and_port : SourceMode::address;
  if (!wants_port) return fd;
  if (fd) {
    counters_.add(Counter::source_port_kept);
    return fd;
  }
  if (dial.source != SourceMode::prefer_port || fd.error().code != EADDRINUSE) return fd;
  counters_.add(Counter::source_port_fallback);
  leg.source->port = {};
  source = SourceMode::address;
  return open_datagram_socket(leg);
}

void UdpEngine::receive_from_targets(UdpSession& session) {
  RawSender* raw = sender(session.key.client.family());
  if (raw == nullptr) return;
  for (int turn = 0; turn < kBatchesPerTurn; ++turn) {
    const auto datagrams = batch_.receive(session.fd.get());
    replies_.clear();
    std::uint64_t bytes = 0;
    for (const auto& received : datagrams) {
      const auto* inner = session.association ? unwrap(session, received) : &received;
      if (inner == nullptr) {
        counters_.add(Counter::udp_filtered);
        continue;
      }
      const auto& datagram = *inner;
      const auto fields = one_hop_further(datagram.fields);
      const auto from = as_client_knows(session, datagram.peer);
      if (!admits(session, datagram.peer) || from.family() != session.key.client.family()) {
        counters_.add(Counter::udp_filtered);
        continue;
      }
      if (fields.ttl == 0) {
        counters_.add(Counter::udp_ttl_expired);
        if (const auto leg = original_destination(session.fd.get()))
          report(time_exceeded(datagram.peer.family()), datagram.peer, *leg, datagram);
        continue;
      }
      if (session.dns) learn_names(session, datagram);
      bytes += datagram.payload.size();
      replies_.push_back({.from = from, .to = session.key.client, .payload = datagram.payload, .fields = fields});
    }
    if (!replies_.empty()) {
      const std::size_t sent = raw->send(replies_);
      counters_.add(Counter::udp_datagrams_down, sent);
      counters_.add(Counter::bytes_down, bytes);
      if (sent < replies_.size()) counters_.add(Counter::udp_dropped, replies_.size() - sent);
      session.bytes_down += bytes;
      sessions_.touch(session, now_ms_);
      note(session, datagrams.back().peer, true, sent);
      if (!session.answered) {
        sessions_.mark_answered(session);
        schedule(session);
      }
    }
    if (datagrams.size() < DatagramBatch::kMost) return;
  }
}

/// That a datagram has travelled far enough: as a router must (RFC 1812 section 5.3.1), because nobody else will: the kernel has delivered
/// it, not forwarded it. traceroute and mtr find us by that. Or that a rule rejects it.
void UdpEngine::report(const IcmpError& error, const SocketAddress& to, SocketAddress about,
                       const ReceivedDatagram& datagram) {
  RawSender* raw = sender(to.family());
  if (raw == nullptr || !icmp_limit_.allow(to.address, now_ms_)) return;
  const auto reporter = source_towards(to, options_.bypass_mark);
  if (!reporter) return;
  if (about.address.is_unspecified()) about.address = *reporter;  // a leg with the host's own address
  try {
    const auto packet = build_icmp_error(error, *reporter, to, about, datagram.payload, datagram.fields);
    [[maybe_unused]] const bool sent = raw->send_packet(packet, to.address);
  } catch (const std::bad_alloc&) {
    return;
  }
}

bool UdpEngine::admits(const UdpSession& session, const SocketAddress& peer) const noexcept {
  if (options_.filtering == NatBehavior::endpoint_independent && !session.fixed_target) return true;
  if (peer == session.target) return true;
  // Where its name leads is known to the upstream alone, which has a socket for this session and nobody else.
  if (session.association && !session.association->name.empty()) return peer.port == session.target.port;
  return std::ranges::find(session.contacted, peer) != session.contacted.end();
}

SocketAddress UdpEngine::as_client_knows(const UdpSession& session, const SocketAddress& target) const noexcept {
  return session.fixed_target ? session.original_destination : target;
}

void UdpEngine::pass_on_errors(UdpSession& session) {
  RawSender* raw = sender(session.key.client.family());
  while (const auto received = batch_.receive_error(session.fd.get())) {
    counters_.add(Counter::udp_icmp_errors);
    if (session.association) continue;  // it is about the upstream, of which the client knows nothing
    const auto about = as_client_knows(session, received->about);
    const auto client_family = session.key.client.family();
    if (raw == nullptr || about.family() != client_family) continue;
    // An error of the target itself comes, for the client, from the address that the client knows it by.
    const bool from_target = !received->reporter || *received->reporter == received->about.address;
    IpAddress reporter = from_target ? about.address : *received->reporter;
    IcmpError error = received->error;
    if (received->about.family() != client_family) error = port_unreachable(client_family);
    if (reporter.family() != client_family) reporter = about.address;
    try {
      const auto packet = build_icmp_error(error, reporter, session.key.client, about, received->payload, {});
      [[maybe_unused]] const bool sent = raw->send_packet(packet, session.key.client.address);
    } catch (const std::bad_alloc&) {
      return;
    }
  }
}

std::uint64_t UdpEngine::deadline_ms(const UdpSession& session) const noexcept {
  if (session.association && session.association->handshake) return session.association->give_up_ms;
  auto patience = session.spent ? kSpent : options_.timeouts.unanswered;
  if (session.answered && !session.spent) {
    const bool dns = session.original_destination.port == kDnsPort;
    patience = dns ? options_.timeouts.dns : options_.timeouts.answered;
  }
  return session.last_activity_ms + static_cast<std::uint64_t>(patience.count());
}

void UdpEngine::schedule(const UdpSession& session) {
  timers_.schedule(session.index, deadline_ms(session));
}

void UdpEngine::end(UdpSession& session, FlowEnd end) {
  timers_.cancel(session.index);
  if (session.counted) counters_.add(Counter::udp_sessions_ended);
  if (session.spent) {  // the record is written elsewhere
    give_back_bytes(session);
    return sessions_.destroy(session);
  }
  if (session.cut) {
    const auto past = offloader_->offload().end_session(session.key.client, session.original_destination);
    session.bytes_up += past.up;
    session.bytes_down += past.down;
    counters_.add(Counter::cut_through_bytes_up, session.bytes_up);
    counters_.add(Counter::cut_through_bytes_down, session.bytes_down);
  }
  if (end == FlowEnd::killed) counters_.add(Counter::killed);
  const auto duration_ms = static_cast<std::int64_t>(monotonic_ms() - session.started_ms);
  counters_.session_duration.add(std::chrono::milliseconds{duration_ms});
  emit_({.client = session.key.client,
         .original_destination = session.original_destination,
         .target = session.target,
         .bytes_up = session.bytes_up,
         .bytes_down = session.bytes_down,
         .started_us = wall_clock_us() - duration_ms * 1000,
         .duration_us = duration_ms * 1000,
         .source = session.source,
         .protocol = Protocol::udp,
         .end = end,
         .cut_through = session.cut,
         .upstream = session.association
                         ? std::string_view(session.association->group.member(session.association->member).name)
                         : std::string_view{},
         .ruling = session.ruling});
  sessions_.destroy(session);
}

void UdpEngine::end_all(FlowEnd reason) {
  for (std::uint32_t index = 0; index < rulings_.capacity(); ++index) {
    if (UdpSession* entry = rulings_.at(index)) forget(*entry);
  }
  for (std::uint32_t index = 0; index < sessions_.capacity(); ++index) {
    if (UdpSession* session = sessions_.at(index)) end(*session, reason);
  }
}

RawSender* UdpEngine::sender(Family family) noexcept {
  auto& sender = family == Family::ipv4 ? sender_ipv4_ : sender_ipv6_;
  return sender ? &*sender : nullptr;
}

}  // namespace limpid
