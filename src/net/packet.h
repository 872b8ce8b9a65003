// Builds IP packets byte by byte: the UDP datagrams and ICMP errors that Limpid sends as somebody else without a socket
// bound to somebody else's address. Pure: bytes in, bytes out. Sent through RawSender (limpid/datagram.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "limpid/address.h"
#include "limpid/datagram.h"

namespace limpid {

/// IPv4 + UDP, or IPv6 + UDP: the most that stands in front of a payload.
inline constexpr std::size_t kMostUdpHeaderBytes = 48;
/// The largest UDP payload that IPv4 carries; IPv6 without jumbograms carries 20 more.
inline constexpr std::size_t kMostUdpPayloadBytes = 65507;
inline constexpr std::size_t kMostUdpPayloadBytesIpv6 = 65527;

/// Writes IP and UDP headers for `payload` in front of it. `headers` has room for kMostUdpHeaderBytes; the result is
/// the part that was used. Both addresses are of one family. Checksums are complete (RFC 768, RFC 8200 section 8.1).
[[nodiscard]] std::span<std::byte> write_udp_headers(std::span<std::byte> headers, const SocketAddress& from,
                                                     const SocketAddress& to, std::span<const std::byte> payload,
                                                     const HopFields& fields);

/// A whole IP packet with a datagram. The same addresses, and no more payload than fits.
[[nodiscard]] std::vector<std::byte> build_datagram(const SocketAddress& from, const SocketAddress& to,
                                                    std::span<const std::byte> payload, const HopFields& fields);
/// A whole IP packet that asks for a connection: a SYN with this sequence number and without options (RFC 9293).
[[nodiscard]] std::vector<std::byte> build_syn(const SocketAddress& from, const SocketAddress& to,
                                               std::uint32_t sequence, const HopFields& fields);
/// One that ends a connection: a RST without ACK, which counts if `sequence` is what `to` expects next (RFC 9293).
[[nodiscard]] std::vector<std::byte> build_reset(const SocketAddress& from, const SocketAddress& to,
                                                 std::uint32_t sequence, const HopFields& fields);

/// Cuts a whole IP packet (of write_udp_headers and its payload, put together) into fragments of at most `mtu` bytes:
/// RFC 791, RFC 8200 section 4.5. `identification` distinguishes packets between the same two hosts.
[[nodiscard]] std::vector<std::vector<std::byte>> fragment_packet(std::span<const std::byte> packet, std::size_t mtu,
                                                                  std::uint32_t identification);

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
