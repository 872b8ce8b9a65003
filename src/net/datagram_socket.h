// The names under which the relay knows the sockets of limpid/datagram.h.
#pragma once

#include "limpid/datagram.h"
#include "net/packet.h"

namespace limpid {

using DatagramLegOptions = DatagramSocketOptions;

[[nodiscard]] inline Result<UniqueFd> open_datagram_listener(const SocketAddress& local, std::uint32_t mark,
                                                             bool reuse_port) {
  return listen_datagrams(local, {.reuse_port = reuse_port, .mark = mark});
}

[[nodiscard]] inline Result<UniqueFd> open_datagram_leg(const DatagramLegOptions& options) {
  return open_datagram_socket(options);
}

/// The address of this host that the kernel would choose as source towards `to`. Empty where there is no way.
[[nodiscard]] std::optional<IpAddress> source_towards(const SocketAddress& to, std::uint32_t mark) noexcept;

}  // namespace limpid
