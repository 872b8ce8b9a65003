// UDP sessions, what rules have decided of them, and datagrams that still wait for that: handed over to a successor, or taken over from a predecessor. Part of UdpEngine.
//
// A session's socket goes over, and with it its port; a client's datagrams come to the same listener as before, which goes over as well. Sessions whose association
// with an upstream is still being made stay behind, and end there: the client's next datagram begins another.
#include <sys/epoll.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "relay/clock.h"
#include "relay/handover_records.h"
#include "relay/state_packets.h"
#include "relay/udp_engine.h"

namespace limpid {
namespace {

std::unexpected<Error> nonsense(std::string_view what) {
  return failure("take over", what, "what the predecessor has sent makes no sense");
}

/// Those that were used least lately come first, so that the queues of the successor are in order again.
std::vector<UdpSession*> by_last_use(UdpSessionTable& table) {
  std::vector<UdpSession*> found;
  for (std::uint32_t index = 0; index < table.capacity(); ++index) {
    if (UdpSession* session = table.at(index)) found.push_back(session);
  }
  std::ranges::sort(found, {}, &UdpSession::last_activity_ms);
  return found;
}

}  // namespace

std::size_t UdpEngine::collect_state(std::vector<HandoverPacket>& into, std::uint16_t worker) {
  std::size_t count = 0;
  StatePackets sessions(into, HandoverPart::sessions, worker);
  for (const UdpSession* session : by_last_use(sessions_)) {
    if (!goes_on_elsewhere(*session)) continue;
    sessions.add(
        [&](RecordWriter& writer, std::vector<int>& descriptors) { write_session(writer, *session, descriptors); });
    ++count;
  }
  const auto entries = by_last_use(rulings_);
  StatePackets rulings(into, HandoverPart::rulings, worker);
  for (const UdpSession* entry : entries) {
    if (!is_decided(*entry->decided)) continue;
    rulings.add(
        [&](RecordWriter& writer, std::vector<int>&) { write_ruling(writer, *entry, options_.upstreams.get()); });
  }
  StatePackets datagrams(into, HandoverPart::datagrams, worker);
  for (const UdpSession* entry : entries) {
    for (const HeldDatagram& held : entry->decided->held) {
      datagrams.add([&](RecordWriter& writer, std::vector<int>&) { write_datagram(writer, *entry, held); });
    }
  }
  return count;
}

std::vector<int> UdpEngine::listener_descriptors() const {
  std::vector<int> all;
  all.reserve(listeners_.size());
  for (const UniqueFd& listener : listeners_) all.push_back(listener.get());
  return all;
}

void UdpEngine::part() {
  for (std::uint32_t index = 0; index < rulings_.capacity(); ++index) {
    UdpSession* entry = rulings_.at(index);
    if (entry == nullptr) continue;
    held_bytes_ -= std::exchange(entry->decided->held_bytes, 0);
    ruling_timers_.cancel(index);
    rulings_.destroy(*entry);
  }
  for (std::uint32_t index = 0; index < sessions_.capacity(); ++index) {
    UdpSession* session = sessions_.at(index);
    if (session == nullptr || !goes_on_elsewhere(*session)) continue;
    timers_.cancel(index);
    sessions_.destroy(*session);
  }
  candidates_.clear();
  close_listeners();
}

Status UdpEngine::adopt(HandoverPart part, RecordReader& reader, std::span<UniqueFd> descriptors) {
  while (!reader.empty()) {
    Status adopted;
    if (part == HandoverPart::sessions) {
      auto session = read_session(reader);
      if (!session) return nonsense("a UDP session");
      const std::size_t wanted = session->association ? 2 : 1;
      if (descriptors.size() < wanted) return nonsense("a UDP session's descriptors");
      adopted = adopt_session(std::move(*session), descriptors.first(wanted));
      descriptors = descriptors.subspan(wanted);
    } else if (part == HandoverPart::rulings) {
      auto ruling = read_ruling(reader);
      if (!ruling) return nonsense("a ruling");
      adopt_ruling(std::move(*ruling));
    } else {
      auto datagram = read_datagram(reader);
      if (!datagram) return nonsense("a datagram");
      adopted_datagrams_.push_back(std::move(*datagram));
    }
    if (!adopted) return adopted;
  }
  return descriptors.empty() ? Status() : nonsense("descriptors");
}

Status UdpEngine::adopt_session(HandedSession handed, std::span<UniqueFd> descriptors) {
  const UdpSessionKey key = handed.session.key;
  if (sessions_.find(key) != nullptr) return nonsense("a UDP session that is there twice");
  std::unique_ptr<UdpAssociation> association;
  if (handed.association) {
    association = find_association(*handed.association, handed.session.target);
    // The configuration has that upstream no longer: the client's next datagram begins a session by the rules of now.
    if (!association) return {};
    association->control = std::move(descriptors[1]);
  }
  UdpSession& session = sessions_.create(key);
  const bool answered = handed.session.answered;
  const auto last_activity_ms = handed.session.last_activity_ms;
  session.fd = std::move(descriptors[0]);
  session.original_destination = handed.session.original_destination;
  session.target = handed.session.target;
  session.bytes_up = handed.session.bytes_up;
  session.bytes_down = handed.session.bytes_down;
  session.started_ms = handed.session.started_ms;
  session.contacted = std::move(handed.session.contacted);
  session.exchange = handed.session.exchange;
  session.ruling = std::move(handed.session.ruling);
  session.source = handed.session.source;
  session.mixed = handed.session.mixed;
  session.routed_otherwise = handed.session.routed_otherwise;
  session.stays = handed.session.stays;
  session.cut = handed.session.cut && offloader_ != nullptr;
  session.counted = handed.session.counted;
  session.fixed_target = handed.session.fixed_target;
  session.association = std::move(association);
  if (answered) sessions_.mark_answered(session);
  sessions_.touch(session, last_activity_ms);
  const std::uint64_t data = (std::uint64_t{session.generation} << 32U) | session.index;
  epoll_event event{.events = EPOLLIN, .data = {.u64 = data}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session.fd.get(), &event) != 0)
    return system_error(errno, "watch", "a UDP session that was handed over");
  if (!session.association) return {};
  event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = data | kControlBit}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session.association->control.get(), &event) != 0)
    return system_error(errno, "watch", "an association that was handed over");
  return {};
}

std::unique_ptr<UdpAssociation> UdpEngine::find_association(const HandedAssociation& handed,
                                                            const SocketAddress& target) const {
  const std::uint16_t number = options_.upstreams ? options_.upstreams->find(handed.upstream.group) : std::uint16_t{0};
  if (number == 0) return nullptr;
  UpstreamGroup& group = options_.upstreams->at(number);
  const auto& members = group.options().members;
  const auto member = std::ranges::find(members, handed.upstream.member, &Upstream::name);
  if (member == members.end()) return nullptr;
  return std::make_unique<UdpAssociation>(UdpAssociation{.group = group,
                                                         .wanted = {.target = target},
                                                         .name = handed.name,
                                                         .member = static_cast<unsigned>(member - members.begin()),
                                                         .server = handed.server,
                                                         .relay = handed.relay});
}

void UdpEngine::adopt_ruling(HandedRuling handed) {
  if (rulings_.find(handed.key) != nullptr) return;
  if (!handed.upstream.empty()) {
    const std::uint16_t number = options_.upstreams ? options_.upstreams->find(handed.upstream) : std::uint16_t{0};
    if (number == 0) return;  // decided anew, with the next datagram
    handed.ruling->verdict.dial.upstream = number;
  }
  UdpSession& entry = rulings_.create(handed.key);
  entry.decided = std::move(handed.ruling);
  entry.original_destination = handed.key.destination;
  entry.started_ms = handed.last_activity_ms;
  if (handed.answered) rulings_.mark_answered(entry);
  rulings_.touch(entry, handed.last_activity_ms);
}

/// On the worker's thread, before its first round.
void UdpEngine::begin_adopted(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  for (std::uint32_t index = 0; index < sessions_.capacity(); ++index) {
    if (const UdpSession* session = sessions_.at(index)) schedule(*session);
  }
  const auto patience = static_cast<std::uint64_t>(options_.timeouts.answered.count());
  for (std::uint32_t index = 0; index < rulings_.capacity(); ++index) {
    if (const UdpSession* entry = rulings_.at(index))
      ruling_timers_.schedule(index, entry->last_activity_ms + patience);
  }
  for (const HandedDatagram& each : std::exchange(adopted_datagrams_, {})) {
    const ReceivedDatagram datagram{.peer = each.key.client,
                                    .original_destination = each.key.destination,
                                    .payload = each.held.payload,
                                    .fields = each.held.fields,
                                    .interface = each.interface};
    send_up({&datagram, 1});
  }
}

}  // namespace limpid
