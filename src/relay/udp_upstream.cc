// Datagrams through upstreams: a SOCKS5 association for each session, or none where it was declared so. Part of UdpEngine.
//
// States of a session's association: under way (datagrams wait, a few of them) → there → gone, with the session. One that fails before it was
// there goes to the next upstream; when none is left, what was declared for that happens.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

#include "net/endpoint.h"
#include "net/packet.h"
#include "relay/flow_end.h"
#include "relay/target_leg.h"
#include "relay/udp_association.h"
#include "relay/udp_engine.h"
#include "relay/upstream_leg.h"
#include "upstream/socks5_datagram.h"

namespace limpid {
namespace {

constexpr std::size_t kPeekBytes = 512;
/// ICMP "administratively prohibited": the client need not wait for an answer.
IcmpError prohibited(Family family) noexcept {
  return family == Family::ipv4 ? IcmpError{.type = 3, .code = 13} : IcmpError{.type = 1, .code = 1};
}

/// Otherwise no datagram may pass, whatever is to happen when the group is down: it is not.
bool carries_any(const UpstreamGroupOptions& group) {
  return group.via.empty() &&
         std::ranges::any_of(group.members, [](const Upstream& member) { return carries_datagrams(member.kind); });
}

}  // namespace

/// True where the datagrams are settled; false: they go their usual way.
bool UdpEngine::send_by_upstream(std::span<const ReceivedDatagram> run, const FlowVerdict& verdict) {
  const Dial& dial = verdict.dial;
  UpstreamGroup& group = options_.upstreams->at(dial.upstream);
  if (group.options().datagrams == DatagramWay::direct) return false;
  UdpSession* session = sessions_.find(key_of(run.front(), verdict.own_session));
  try {
    if (session == nullptr && group.options().datagrams == DatagramWay::upstream && carries_any(group.options())) {
      session = open_association(run.front(), verdict, group);
    }
    if (session == nullptr) {
      counters_.add(Counter::udp_dropped, run.size());
      reject(run);
      return true;
    }
    if (session->association == nullptr) return false;  // its group was down
    note_contact(*session, dial.target);
    if (reads_dns(*run.front().original_destination)) note_questions(*session, run, dial.target);
    for (const auto& datagram : run) {
      if (session->association->relay) {
        send_associated(*session, dial.target, datagram.payload);
      } else if (session->association->waiting.size() < UdpAssociation::kMostWaiting) {
        session->association->waiting.push_back(
            {.destination = dial.target, .payload = {datagram.payload.begin(), datagram.payload.end()}});
      } else {
        counters_.add(Counter::udp_dropped);
      }
    }
  } catch (const std::bad_alloc&) {
    counters_.add(Counter::udp_dropped, run.size());
    return true;
  }
  sessions_.touch(*session, now_ms_);
  return true;
}

/// Says so to the client, once for each run: an application that hears nothing would wait for its own timeout.
void UdpEngine::reject(std::span<const ReceivedDatagram> run) {
  const auto& first = run.front();
  RawSender* raw = sender(first.peer.family());
  if (raw == nullptr || !icmp_limit_.allow(first.peer.address, now_ms_)) return;
  const auto reporter = source_towards(first.peer, options_.bypass_mark);
  if (!reporter) return;
  try {
    const auto packet = build_icmp_error(prohibited(first.peer.family()), *reporter, first.peer,
                                         *first.original_destination, first.payload, first.fields);
    [[maybe_unused]] const bool sent = raw->send_packet(packet, first.peer.address);
  } catch (const std::bad_alloc&) {
    return;
  }
}

UdpSession* UdpEngine::open_association(const ReceivedDatagram& datagram, const FlowVerdict& verdict,
                                        UpstreamGroup& group) {
  const Dial& dial = verdict.dial;
  const auto key = key_of(datagram, verdict.own_session);
  make_room(key.client.address);
  UdpSession& session = sessions_.create(key);
  session.original_destination = *datagram.original_destination;
  session.target = dial.target;
  session.fixed_target = verdict.fixed_target || verdict.by_name;
  session.ruling = verdict.ruling;
  session.started_ms = session.last_activity_ms = now_ms_;
  session.stays = true;  // its datagrams have a header that only we take off
  session.association = std::make_unique<UdpAssociation>(UdpAssociation{
      .group = group, .wanted = dial, .name = verdict.by_name ? std::string(verdict.ruling.name()) : std::string()});
  counters_.add(Counter::udp_sessions_total);
  const std::uint32_t generation = session.generation;
  associate_with_next(session);
  return sessions_.find(session.index, generation);
}

void UdpEngine::associate_with_next(UdpSession& session) {
  UdpAssociation& association = *session.association;
  for (;;) {
    const auto member = association.group.choose({.client = session.key.client.address,
                                                  .destination = association.wanted.target,
                                                  .has_name = !association.name.empty(),
                                                  .datagrams = true,
                                                  .tried = association.tried},
                                                 now_ms_);
    if (!member) return go_without_association(session);
    if (association.tried != 0) counters_.add(Counter::upstream_failovers);
    association.tried |= 1U << *member;
    association.member = *member;
    const Upstream& upstream = association.group.member(*member);
    if (call_upstream(session, upstream)) return;
    association.group.failed(*member, now_ms_);
  }
}

bool UdpEngine::call_upstream(UdpSession& session, const Upstream& upstream) {
  UdpAssociation& association = *session.association;
  const UpstreamServer* server = association.group.server(association.member);
  if (server == nullptr || options_.policy->is_own_listener(server->address)) return false;
  association.server = server->address;
  const Dial dial = dial_through(upstream, server, association.wanted, session.key.client);
  auto leg = open_upstream_leg(upstream, dial, {.fd = -1, .address = session.key.client},
                               {.bypass_mark = options_.bypass_mark}, counters_);
  DatagramSocketOptions to_relay{.family = association.server.family(),
                                 .mark = options_.bypass_mark | upstream.mark,
                                 .interface = upstream.interface};
  if (upstream.source) to_relay.source = SocketAddress{.address = *upstream.source, .port = {}};
  auto datagrams = open_datagram_socket(to_relay);
  if (!leg || !datagrams) return false;
  association.control = std::move(leg->fd);
  association.handshake.emplace(Socks5Handshake(
      upstream.credentials,
      Destination{.address = {.address = IpAddress::any(association.server.family()), .port = {}}, .name = {}},
      Socks5Command::udp_associate));
  session.fd = std::move(*datagrams);
  association.give_up_ms = now_ms_ + static_cast<std::uint64_t>(association.group.options().timeout.count());
  const std::uint64_t data = (std::uint64_t{session.generation} << 32U) | session.index;
  epoll_event control{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = data | kControlBit}};
  epoll_event incoming{.events = EPOLLIN, .data = {.u64 = data}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, association.control.get(), &control) != 0) return false;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session.fd.get(), &incoming) != 0) return false;
  schedule(session);
  return true;
}

void UdpEngine::go_without_association(UdpSession& session) {
  const Dial dial = session.association->wanted;
  // Who is sent by name is not to end where his client says that the name is.
  const bool direct =
      session.association->group.options().down == GroupDown::direct && session.association->name.empty();
  auto fd = direct ? open_leg(dial, session.key.client, session.source) : Result<UniqueFd>(UniqueFd());
  if (!direct || !fd) {
    counters_.add(Counter::udp_dropped, session.association->waiting.size());
    return end(session, FlowEnd::upstream_down);
  }
  counters_.add(Counter::upstream_direct);
  const auto waiting = std::move(session.association->waiting);
  session.association.reset();
  session.fd = std::move(*fd);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = (std::uint64_t{session.generation} << 32U) | session.index}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session.fd.get(), &event) != 0) return end(session, FlowEnd::error);
  schedule(session);
  for (const auto& each : waiting) {
    const std::span<const std::byte> payload(each.payload);
    const std::size_t sent = send_datagrams(session.fd.get(), each.destination, {}, {&payload, 1});
    book_sent(session, sent, sent == 1 ? payload.size() : 0, 1);
  }
}

void UdpEngine::serve_control(UdpSession& session) {
  UdpAssociation& association = *session.association;
  const int fd = association.control.get();
  for (;;) {
    std::array<std::byte, kPeekBytes> bytes;
    if (association.relay) {
      // Nothing is said on it any more but its end, which ends the association; nor will we listen to anything else.
      const ssize_t there = recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (there < 0 && errno == EINTR) continue;
      if (there < 0 && errno == EAGAIN) return;
      return end(session, FlowEnd::target_reset);
    }
    Handshake& handshake = *association.handshake;
    while (!handshake.waiting().empty()) {
      const auto waiting = handshake.waiting();
      const ssize_t sent = send(fd, waiting.data(), waiting.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) return;
      if (sent < 0 && errno != EINTR) return fail_association(session, !handshake.is_past_upstream());
      if (sent > 0) handshake.sent(static_cast<std::size_t>(sent));
    }
    const ssize_t there = recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (there < 0 && errno == EINTR) continue;
    if (there < 0 && errno == EAGAIN) return;
    if (there <= 0) return fail_association(session, !handshake.is_past_upstream());
    std::ignore = handshake.take(std::span(bytes).first(static_cast<std::size_t>(there)));
    if (handshake.state() == HandshakeState::running) continue;
    if (handshake.state() != HandshakeState::done) {
      return fail_association(session, is_fault_of_upstream(handshake.state()));
    }
    begin_association(session);
    if (session.association == nullptr || !session.association->relay) return;
  }
}

void UdpEngine::begin_association(UdpSession& session) {
  UdpAssociation& association = *session.association;
  const SocketAddress& server = association.server;
  SocketAddress relay = association.handshake->bound();
  // Servers say 0.0.0.0 for "where you have found me", and behind NAT sometimes what only they can reach.
  if (relay.address.is_unspecified() || (relay.address.is_loopback() && !server.address.is_loopback())) {
    relay.address = server.address;
    relay.scope_id = server.scope_id;
  }
  association.handshake.reset();
  if (relay.port.value == 0 || relay.family() != server.family() || options_.policy->is_own_listener(relay)) {
    return fail_association(session, true);
  }
  association.relay = relay;
  association.group.succeeded(association.member, 0);
  association.group.count_flow(association.member);
  session.last_activity_ms = now_ms_;
  schedule(session);
  const auto waiting = std::move(association.waiting);
  for (const auto& each : waiting) send_associated(session, each.destination, each.payload);
}

void UdpEngine::fail_association(UdpSession& session, bool at_fault) {
  UdpAssociation& association = *session.association;
  association.handshake.reset();
  if (at_fault) association.group.failed(association.member, now_ms_);
  association.control.reset();
  session.fd.reset();
  associate_with_next(session);
}

void UdpEngine::send_associated(UdpSession& session, const SocketAddress& destination,
                                std::span<const std::byte> payload) {
  const Socks5DatagramHeader header(destination, session.association->name);
  wrapped_.assign(header.bytes().begin(), header.bytes().end());
  wrapped_.insert(wrapped_.end(), payload.begin(), payload.end());
  const std::span<const std::byte> datagram(wrapped_);
  const std::size_t sent = send_datagrams(session.fd.get(), session.association->relay, {}, {&datagram, 1});
  book_sent(session, sent, sent == 1 ? payload.size() : 0, 1);
}

void UdpEngine::book_sent(UdpSession& session, std::size_t sent, std::size_t bytes, std::size_t wanted) noexcept {
  session.bytes_up += bytes;
  counters_.add(Counter::bytes_up, bytes);
  counters_.add(Counter::udp_datagrams_up, sent);
  if (sent < wanted) counters_.add(Counter::udp_dropped, wanted - sent);
}

/// What the upstream's relay has sent, without the header, until the next call. nullptr for what anybody else has.
const ReceivedDatagram* UdpEngine::unwrap(const UdpSession& session, const ReceivedDatagram& datagram) {
  if (datagram.peer != session.association->relay) return nullptr;
  const auto inner = read_socks5_datagram(datagram.payload);
  if (!inner) return nullptr;
  unwrapped_ = datagram;
  unwrapped_.peer = inner->from;
  unwrapped_.payload = inner->payload;
  return &unwrapped_;
}

}  // namespace limpid
