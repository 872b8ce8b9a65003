// How a client's packets came to an accepted connection: interface, DSCP, and the sender's MAC address. Asked of the socket or of the neighbour table, once for a flow.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/netlink_socket.h"

namespace limpid {

struct ConnectionArrival {
  std::uint32_t interface = 0;     ///< its index; 0: not told
  std::uint8_t traffic_class = 0;  ///< TOS in IPv4
};

/// Of the segment that completed the handshake. Empty: the kernel does not tell, or the connection has gone.
[[nodiscard]] std::optional<ConnectionArrival> connection_arrival(int accepted, Family family) noexcept;

using LinkAddress = std::array<std::uint8_t, 6>;

/// Makes a listener keep the headers of SYNs for its connections, or not any more. Linux 5.10 can.
void keep_syn_headers(int listener, bool keep) noexcept;
/// Who sent the SYN over the last link, if its headers were kept; they are then thrown away. Empty: they were not, or the link has no such addresses.
[[nodiscard]] std::optional<LinkAddress> sender_of_syn(int accepted, Family family) noexcept;

/// The kernel's neighbour table. One thread at a time; of the network namespace in which it was opened.
class NeighborSocket {
 public:
  [[nodiscard]] static Result<NeighborSocket> open();
  /// Empty: unknown, or it has no address of this kind.
  [[nodiscard]] std::optional<LinkAddress> find(std::uint32_t interface, const IpAddress& address);

 private:
  explicit NeighborSocket(NetlinkSocket socket) noexcept : socket_(std::move(socket)) {}
  NetlinkSocket socket_;
};

/// As it is called now; empty: there is none.
[[nodiscard]] std::string interface_name(std::uint32_t index);

/// LOOPBACK_IFINDEX of include/linux/if_link.h is the same in every network namespace.
inline constexpr std::uint32_t kLoopbackIndex = 1;

}  // namespace limpid
