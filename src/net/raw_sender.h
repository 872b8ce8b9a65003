// RawSender: sends whole IP packets with any source address. No socket is bound to a foreign address for it, so it
// collides with no local server and steals no datagram. Needs CAP_NET_RAW.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "net/packet.h"

namespace limpid {

/// One datagram to send as `from`.
struct SpoofedDatagram {
  SocketAddress from;
  SocketAddress to;
  std::span<const std::byte> payload;
  HopFields fields;
};

/// One family, one thread.
class RawSender {
 public:
  /// `mark` is the bypass mark, so that a packet that comes back over loopback is not captured.
  [[nodiscard]] static Result<RawSender> open(Family family, std::uint32_t mark);

  /// Sends up to kBatch datagrams in one system call; the result is how many the kernel took: the next one was refused,
  /// with errno set. Datagrams too large for the way are sent in fragments.
  [[nodiscard]] std::size_t send(std::span<const SpoofedDatagram> datagrams) noexcept;
  /// A packet that is complete already, to the host that it names.
  [[nodiscard]] bool send_packet(std::span<const std::byte> packet, const IpAddress& to) noexcept;

  static constexpr std::size_t kBatch = 64;

 private:
  RawSender(UniqueFd fd, Family family) noexcept : fd_(std::move(fd)), family_(family) {}
  [[nodiscard]] bool send_in_fragments(const SpoofedDatagram& datagram) noexcept;

  UniqueFd fd_;
  Family family_;
  std::uint32_t identification_ = 1;
};

}  // namespace limpid
