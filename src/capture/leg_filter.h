// Which packets belong to the two legs of one flow: as a classic BPF program for an AF_PACKET socket of type SOCK_DGRAM, whose packets begin with the IP header, and the
// same once more in plain code, which says to which leg a packet belongs. Pure.
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "limpid/address.h"
#include "net/endpoint.h"

namespace limpid {

/// The ends of a leg's packets. Port 0: any end. An unspecified address: any address with that port.
struct LegEnds {
  SocketAddress client_side;  ///< whose packets go up
  SocketAddress target_side;
  bool operator==(const LegEnds&) const = default;
};

struct CapturedFlow {
  Transport transport = Transport::tcp;
  LegEnds client_leg;
  std::optional<LegEnds> target_leg{};  ///< empty: there is none yet
  bool operator==(const CapturedFlow&) const = default;
};

/// Accepts `snaplen` bytes of each packet of either leg, in both directions, and of ICMP errors about one. Later fragments have no ports and are not accepted; neither are
/// IPv6 packets with extension headers.
[[nodiscard]] std::vector<sock_filter> build_filter(const CapturedFlow& flow, std::uint32_t snaplen);

struct LegOfPacket {
  bool target_leg = false;
  bool up = false;  ///< on its way to the target
};

/// `outgoing`: the packet leaves this host; it tells legs with the same addresses and ports apart. Empty: it is of neither.
[[nodiscard]] std::optional<LegOfPacket> find_leg(const CapturedFlow& flow, std::span<const std::byte> packet,
                                                  bool outgoing);

}  // namespace limpid
