// Flow: one relayed TCP connection. Its client leg's local address is the original destination: that is what TPROXY means.
//
// States, and what may happen in each:
//   introducing the client is still to be named, by a PROXY protocol header. → deciding, connecting, or the end.
//   deciding    there is no target leg yet: what is to become of it depends on its first bytes, which wait in the client's socket. → connecting,
//               ignoring, or the end: the client is reset.
//   resolving   it goes where its name leads, and that is being looked up. Client bytes wait in its socket. → connecting, or the end.
//   ignoring    a rule drops it: the client hears nothing. → the end.
//   connecting  the target leg's handshake runs. Client bytes wait in its socket, also those that a SYN has taken along. A failure →
//               connecting with the policy's next target, if it has one. → relaying, or the end: the client is reset.
//   handshaking an upstream is told where to. Client bytes still wait. A failure → connecting with the next upstream. → relaying, or the end.
//   relaying    two pumps. One direction may be done while the other lives on (half-close). → lingering, or the end.
//   lingering   all is said, but the kernel still has bytes that a peer has not acknowledged: after a reset of one leg the other
//               must be reset only then, and after a graceful end the rules must stay until then. → the end.
//   leaving     it was handed over (cut-through), straight from relaying. Its sockets deliver what had arrived before, and stay until what they
//               have sent is acknowledged. → gone, while the flow itself goes on elsewhere.
#pragma once

#include <cstdint>
#include <memory>

#include "limpid/address.h"
#include "policy/decision.h"
#include "relay/flow_record.h"
#include "relay/pump.h"
#include "relay/upstream_route.h"

namespace limpid {

enum class FlowState : std::uint8_t {
  introducing,
  deciding,
  resolving,
  ignoring,
  connecting,
  handshaking,
  relaying,
  lingering,
  leaving
};

/// Names a flow for as long as it lives: a stale id is refused instead of touching the flow that took its slot.
struct FlowId {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  auto operator<=>(const FlowId&) const = default;
};

struct Flow {
  Leg client;
  Leg target;
  Direction up;    ///< client → target
  Direction down;  ///< target → client
  SocketAddress client_address;
  SocketAddress original_destination;
  SocketAddress target_address;
  std::uint64_t started_ms = 0;        ///< monotonic
  std::uint64_t last_activity_ms = 0;  ///< monotonic; idle time counts from here
  std::uint64_t give_up_ms =
      0;          ///< deciding, connecting, lingering: the end of patience; relaying: not handed over before
  Ruling ruling;  ///< what rules made of it
  std::unique_ptr<UpstreamRoute> upstream;  ///< nullptr: it goes to its target itself
  std::uint64_t offload_id = 0;             ///< leaving: its name where it is now
  std::uint64_t offload_moment = 0;   ///< leaving: when packets began to pass the sockets by, or when it was settled
  std::uint32_t generation = 0;       ///< odd while in use
  std::uint32_t unacknowledged = 0;   ///< lingering: bytes at the last look
  std::uint32_t linger_delay_ms = 0;  ///< until the next look at the unacknowledged bytes
  FlowState state = FlowState::connecting;
  FlowEnd end = FlowEnd::closed;
  SourceMode source = SourceMode::none;
  bool waits_for_bytes = false;  ///< deciding: SO_RCVLOWAT is set
  bool queued = false;           ///< waits for its next turn in the worker's ready list
  bool held = false;             ///< relaying: its windows do not grow until it is handed over, or stays
  bool movable = false;          ///< relaying: nothing that lasts speaks against handing it over
  bool silent = false;  ///< leaving: the sockets are under repair, so that even our end is no event for anybody
  bool routed_otherwise = false;      ///< its target leg: as in TargetLeg
  bool settled = false;               ///< leaving: the sockets have nothing to hear any more
  std::uint8_t offload_attempts = 0;  ///< how often it was tried to hand it over
  std::uint8_t silent_attempts = 0;   ///< and how often since bytes moved
  std::uint32_t attempts = 0;         ///< how many targets were dialled
  std::uint32_t dialled_us = 0;       ///< connecting: when it began, monotonic; the low 32 bits
  std::uint16_t sent_with_syn =
      0;  ///< connecting: bytes that the target leg has taken and that still wait in the client's socket
};
static_assert(sizeof(Flow) <= 320,
              "an idle flow is this and two timer and table entries: every byte counts ten thousandfold");

}  // namespace limpid
