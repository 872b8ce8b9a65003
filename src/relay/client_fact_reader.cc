// From the cheapest question to the dearest; a client that did not come over the loopback interface is no program of this host, and nobody searches for one.
#include "relay/client_fact_reader.h"

#include <new>
#include <utility>

#include "limpid/transparent.h"

namespace limpid {
namespace {

constexpr unsigned kEcnBits = 2;  // RFC 3168: below the DSCP in the same byte

/// Opens what is missing; nullptr: it cannot be had.
template <class Socket>
Socket* opened(std::optional<Socket>& socket) {
  if (!socket) {
    auto made = Socket::open();
    if (made) socket = std::move(*made);
  }
  return socket ? &*socket : nullptr;
}

/// A client that was introduced to us (PROXY protocol) is not the one whose packets came.
bool is_introduced(const FlowKey& key, const FlowOrigin& origin) {
  if (origin.accepted < 0) return false;
  const auto peer = peer_address(origin.accepted);
  return !peer || peer->address != key.client.address || peer->port != key.client.port;
}

}  // namespace

void ClientFactReader::learn(FactSet wanted, Transport transport, const FlowKey& key, const FlowOrigin& origin,
                             ClientFacts& facts) {
  try {
    ConnectionArrival arrival{.interface = origin.interface, .traffic_class = origin.traffic_class};
    if (origin.accepted >= 0)
      arrival = connection_arrival(origin.accepted, key.client.family()).value_or(ConnectionArrival{});
    if (wanted.has(Fact::arrival)) {
      facts.interface = arrival.interface != 0 ? interface_name(arrival.interface) : std::string();
      facts.dscp = static_cast<std::uint8_t>(arrival.traffic_class >> kEcnBits);
    }
    const bool introduced = is_introduced(key, origin);
    const bool local = arrival.interface == kLoopbackIndex;
    if (wanted.has(Fact::hardware) && !introduced && !local) learn_hardware(key, origin, arrival.interface, facts);
    const bool about_program = wanted.has(Fact::user) || wanted.has(Fact::cgroup) || wanted.has(Fact::process);
    if (about_program && !introduced && local) learn_program(wanted, transport, key, facts);
  } catch (const std::bad_alloc&) {
    facts.process.reset();  // absent, like all that could not be learnt
  }
  facts.known.add(wanted);
}

void ClientFactReader::learn_hardware(const FlowKey& key, const FlowOrigin& origin, std::uint32_t interface,
                                      ClientFacts& facts) {
  if (origin.accepted >= 0) facts.mac = sender_of_syn(origin.accepted, key.client.family());
  if (facts.mac || interface == 0) return;
  if (auto* neighbors = opened(neighbors_)) facts.mac = neighbors->find(interface, key.client.address);
}

void ClientFactReader::learn_program(FactSet wanted, Transport transport, const FlowKey& key, ClientFacts& facts) {
  auto* sockets = opened(sockets_);
  if (sockets == nullptr) return;
  const auto socket = sockets->find(transport, key.client, key.original_destination);
  if (!socket) return;
  facts.user = socket->user;
  if (wanted.has(Fact::cgroup) && socket->cgroup) {
    if (!cgroups_) cgroups_.emplace();
    facts.cgroup = cgroups_->path_of(*socket->cgroup);
  }
  const bool asks_process = wanted.has(Fact::process) || (wanted.has(Fact::cgroup) && facts.cgroup.empty());
  const auto pid = asks_process ? processes_.find(*socket) : std::nullopt;
  auto identity = pid ? identify_process(*pid) : std::nullopt;
  if (!identity) return;
  if (facts.cgroup.empty()) facts.cgroup = std::move(identity->cgroup);
  facts.process = ClientProcess{.group = identity->group, .executable = std::move(identity->executable)};
}

}  // namespace limpid
