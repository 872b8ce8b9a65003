// UDP sessions as operators see them, and their end at an operator's wish. Part of UdpEngine.
#include <algorithm>

#include "limpid/transparent.h"
#include "relay/udp_engine.h"

namespace limpid {
namespace {

std::string_view state_of(const UdpSession& session) noexcept {
  if (session.association && session.association->handshake) return "handshaking";
  return session.answered ? "relaying" : "unanswered";
}

}  // namespace

std::optional<FlowView> UdpEngine::view_session(std::uint32_t index, std::uint64_t now_ms) {
  const UdpSession* session = sessions_.at(index);
  if (session == nullptr || session->spent) return std::nullopt;
  FlowView view;
  view.name = {.kind = FlowName::Kind::udp, .index = index, .generation = session->generation};
  view.state = state_of(*session);
  view.protocol = Protocol::udp;
  view.cut_through = session->cut;
  view.source = session->source;
  view.client = session->key.client;
  view.original_destination = session->original_destination;
  view.target = session->target;
  view.bytes_up = session->bytes_up;
  view.bytes_down = session->bytes_down;
  view.age_ms = now_ms - std::min(now_ms, session->started_ms);
  view.idle_ms = now_ms - std::min(now_ms, session->last_activity_ms);
  if (session->association) view.upstream = session->association->group.member(session->association->member).name;
  view.ruling = session->ruling;
  return view;
}

std::optional<FlowLegs> UdpEngine::legs_of(std::uint32_t index) {
  const UdpSession* session = sessions_.at(index);
  if (session == nullptr) return std::nullopt;
  // By client alone: one socket for all whom it writes to.
  const SocketAddress& destination = session->key.destination;
  FlowLegs legs{.client = {.local = destination, .remote = session->key.client}};
  if (!session->fd.valid()) return legs;
  SocketAddress remote = destination.port.value != 0 ? session->target : SocketAddress{};
  if (session->association) remote = session->association->relay.value_or(SocketAddress{});
  const auto local = remote.port.value != 0 ? source_of(*session, remote)
                                            : original_destination(session->fd.get()).value_or(SocketAddress{});
  if (local) legs.target = LegAddresses{.local = *local, .remote = remote};
  return legs;
}

bool UdpEngine::kill(std::uint32_t index, std::uint32_t generation) {
  UdpSession* session = sessions_.find(index, generation);
  if (session == nullptr || session->spent) return false;
  end(*session, FlowEnd::killed);
  return true;
}

}  // namespace limpid
