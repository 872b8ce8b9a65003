// Builds IP packets byte by byte: the UDP datagrams and ICMP errors that Limpid sends as somebody else without a socket
// bound to somebody else's address. Pure: bytes in, bytes out. Sent through RawSender (net/raw_sender.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "limpid/address.h"

namespace limpid {

/// What an IP header says beside the addresses.
struct HopFields {
  std::uint8_t ttl = 64;           ///< hop limit in IPv6
  std::uint8_t traffic_class = 0;  ///< TOS in IPv4
  bool operator==(const HopFields&) const = default;
};

/// IPv4 + UDP, or IPv6 + UDP: the most that stands in front of a payload.
inline constexpr std::size_t kMostUdpHeaderBytes = 48;
/// The largest UDP payload that IPv4 carries; IPv6 without jumbograms carries 20 more.
inline constexpr std::size_t kMostUdpPayloadBytes = 65507;

/// Writes IP and UDP headers for `payload` in front of it. `headers` has room for kMostUdpHeaderBytes; the result is
/// the part that was used. Both addresses are of one family. Checksums are complete (RFC 768, RFC 8200 section 8.1).
[[nodiscard]] std::span<std::byte> write_udp_headers(std::span<std::byte> headers, const SocketAddress& from,
                                                     const SocketAddress& to, std::span<const std::byte> payload,
                                                     const HopFields& fields);

/// Cuts a whole IP packet (of write_udp_headers and its payload, put together) into fragments of at most `mtu` bytes:
/// RFC 791, RFC 8200 section 4.5. `identification` distinguishes packets between the same two hosts.
[[nodiscard]] std::vector<std::vector<std::byte>> fragment_packet(std::span<const std::byte> packet, std::size_t mtu,
                                                                  std::uint32_t identification);

/// An ICMP or ICMPv6 error, as far as it is passed on.
struct IcmpError {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  std::uint32_t rest = 0;  ///< the second word: the MTU of "packet too big" and "fragmentation needed"
};

/// Port unreachable of that family.
[[nodiscard]] IcmpError port_unreachable(Family family) noexcept;
/// Time to live exceeded in transit (hop limit, in IPv6).
[[nodiscard]] IcmpError time_exceeded(Family family) noexcept;

/// The error from `reporter` to `to.address` about a datagram that `to` had sent to `about`: quotes its headers (the
/// IP header said `fields`), and as much of its payload as RFC 792 and RFC 4443 ask for. All of one family.
[[nodiscard]] std::vector<std::byte> build_icmp_error(const IcmpError& error, const IpAddress& reporter,
                                                      const SocketAddress& to, const SocketAddress& about,
                                                      std::span<const std::byte> payload, const HopFields& fields);

}  // namespace limpid
