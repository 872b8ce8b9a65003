// ClientFactReader: asks the kernel what rules want to know of a client beside its addresses. One for each thread, held by its Decider; opens its sockets when
// they are first needed, and blocks for as long as the kernel takes to answer (docs/policy.md has what each costs).
#pragma once

#include <cstdint>
#include <optional>

#include "limpid/address.h"
#include "net/client_arrival.h"
#include "net/endpoint.h"
#include "net/socket_owner.h"
#include "policy/client_facts.h"
#include "policy/decision.h"

namespace limpid {

/// Where a flow can be asked about its client.
struct FlowOrigin {
  int accepted = -1;               ///< TCP: the client's socket, borrowed
  std::uint32_t interface = 0;     ///< UDP: by which its first datagram came; 0: not told
  std::uint8_t traffic_class = 0;  ///< UDP: of that one
};

class ClientFactReader {
 public:
  /// Learns those of `wanted` that `facts` does not have. What cannot be learnt is then known as absent.
  void learn(FactSet wanted, Transport transport, const FlowKey& key, const FlowOrigin& origin, ClientFacts& facts);

 private:
  void learn_hardware(const FlowKey& key, const FlowOrigin& origin, std::uint32_t interface, ClientFacts& facts);
  void learn_program(FactSet wanted, Transport transport, const FlowKey& key, ClientFacts& facts);

  std::optional<NeighborSocket> neighbors_;
  std::optional<SocketFinder> sockets_;
  std::optional<CgroupNames> cgroups_;
  ProcessFinder processes_;
};

}  // namespace limpid
