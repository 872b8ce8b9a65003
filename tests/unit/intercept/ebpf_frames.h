// Frames by hand, for tests of the eBPF programs: Ethernet, VLAN tags, IPv4, IPv6 with extension headers, TCP, UDP. Checksums are left out: nobody asks.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "limpid/address.h"

namespace limpid::frames {

using Bytes = std::vector<std::uint8_t>;

inline Bytes operator+(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

inline Bytes u16(unsigned value) {
  return {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}

inline constexpr std::uint8_t kSyn = 0x02;
inline constexpr std::uint8_t kAck = 0x10;

inline Bytes tcp(std::uint16_t port, std::uint8_t flags = kSyn) {
  return u16(40000) + u16(port) + Bytes(8) + Bytes{0x50, flags} + Bytes(6);
}
inline Bytes udp(std::uint16_t port) {
  return u16(40000) + u16(port) + u16(12) + u16(0) + Bytes(4);
}

inline Bytes address(std::string_view text) {
  const auto parsed = IpAddress::parse(text);
  const auto& bytes = parsed->bytes();
  return {bytes.begin(), bytes.begin() + parsed->bits() / 8};
}

struct Ipv4 {
  std::string_view source = "192.0.2.2";
  std::string_view destination = "198.51.100.2";
  std::uint8_t protocol = 6;
  unsigned fragment = 0;  ///< flags and offset
  std::uint8_t words = 5;
};
inline Bytes ipv4(const Ipv4& header, const Bytes& payload) {
  return Bytes{static_cast<std::uint8_t>(0x40 | header.words), 0} +
         u16(header.words * 4U + static_cast<unsigned>(payload.size())) + Bytes(2) + u16(header.fragment) +
         Bytes{64, header.protocol} + Bytes(2) + address(header.source) + address(header.destination) +
         Bytes(header.words > 5 ? (header.words - 5U) * 4U : 0U) + payload;
}

/// `next` is the first header behind it.
inline Bytes ipv6(std::uint8_t next, const Bytes& payload, std::string_view source = "2001:db8:1::2",
                  std::string_view destination = "2001:db8:2::2") {
  return Bytes{0x60, 0, 0, 0} + u16(static_cast<unsigned>(payload.size())) + Bytes{next, 64} + address(source) +
         address(destination) + payload;
}

/// `octets` behind the eight that such a header has at least.
inline Bytes extension(std::uint8_t next, std::uint8_t octets_of_eight = 0) {
  return Bytes{next, octets_of_eight} + Bytes(6 + 8U * octets_of_eight);
}
inline Bytes fragment_header(std::uint8_t next, unsigned offset_and_flags) {
  return Bytes{next, 0} + u16(offset_and_flags) + Bytes(4);
}

inline Bytes ethernet(const std::array<std::uint8_t, 6>& to, unsigned type, const Bytes& payload) {
  return Bytes(to.begin(), to.end()) + Bytes{2, 0, 0, 0, 0, 1} + u16(type) + payload;
}

}  // namespace limpid::frames
