// UdpRuling: what rules have decided, or are about to, for the datagrams of one client to one destination. Kept by UdpEngine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "limpid/datagram.h"
#include "relay/decider.h"
#include "sniff/quic_sniffer.h"

namespace limpid {

/// One that waits for a decision.
struct HeldDatagram {
  std::vector<std::byte> payload;
  HopFields fields;
};

struct UdpRuling {
  enum class State : std::uint8_t {
    looking,        ///< more datagrams are needed; those that came are held
    resolving,      ///< the name is looked up where it goes; those that came are held
    decided,        ///< `verdict` is for all that follow
    each_by_itself  ///< DNS: every datagram asks for another name
  };
  State state = State::looking;
  FlowVerdict verdict;
  FlowOrigin origin;                  ///< of the first datagram
  std::unique_ptr<QuicSniffer> quic;  ///< looking
  std::vector<HeldDatagram> held;     ///< looking, resolving
  std::size_t held_bytes = 0;         ///< of both
  std::uint64_t void_from_ms =
      UINT64_MAX;  ///< decided: refused because its name leads nowhere; from then on it is asked for again
};

}  // namespace limpid
