// TCP segments and ICMP errors as values, for tests of the programs packet by packet: written into frames with right checksums, and read back from what
// a program made of them, every checksum added up anew.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "limpid/address.h"

namespace limpid::segments {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint8_t kFin = 1;
inline constexpr std::uint8_t kSyn = 2;
inline constexpr std::uint8_t kRst = 4;
inline constexpr std::uint8_t kPsh = 8;
inline constexpr std::uint8_t kAck = 16;
inline constexpr std::uint8_t kUrg = 32;

struct Segment {
  SocketAddress from;
  SocketAddress to;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint8_t flags = kAck;
  std::uint16_t window = 1000;
  std::uint16_t urgent = 0;
  Bytes options;  ///< a multiple of four
  Bytes payload;
  std::uint8_t hops = 64;
  Bytes ip_options;  ///< IPv4: a multiple of four
  bool operator==(const Segment&) const = default;
};

class Sum {
 public:
  void add(std::span<const std::uint8_t> bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) sum_ += i % 2 == 0 ? bytes[i] * 256U : bytes[i];
  }
  void add(std::uint32_t value) { sum_ += (value >> 16U) + (value & 0xffffU); }
  [[nodiscard]] std::uint16_t value() const {
    std::uint64_t sum = sum_;
    while (sum > 0xffff) sum = (sum >> 16U) + (sum & 0xffffU);
    return static_cast<std::uint16_t>(~sum);
  }

 private:
  std::uint64_t sum_ = 0;
};

inline void put16(Bytes& out, std::size_t at, std::uint32_t value) {
  out[at] = static_cast<std::uint8_t>(value >> 8U);
  out[at + 1] = static_cast<std::uint8_t>(value);
}
inline void put32(Bytes& out, std::size_t at, std::uint32_t value) {
  put16(out, at, value >> 16U);
  put16(out, at + 2, value & 0xffffU);
}
inline std::uint32_t get16(std::span<const std::uint8_t> in, std::size_t at) {
  return static_cast<std::uint32_t>(in[at] << 8U | in[at + 1]);
}
inline std::uint32_t get32(std::span<const std::uint8_t> in, std::size_t at) {
  return get16(in, at) << 16U | get16(in, at + 2);
}
inline Bytes words(std::initializer_list<std::uint32_t> all) {
  Bytes bytes(all.size() * 4);
  std::size_t at = 0;
  for (const std::uint32_t word : all) {
    put32(bytes, at, word);
    at += 4;
  }
  return bytes;
}
inline Bytes operator+(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}
inline Bytes octets(const IpAddress& address) {
  return {address.bytes().begin(), address.bytes().begin() + address.bits() / 8};
}
inline std::uint16_t checksum_over(const IpAddress& from, const IpAddress& to, std::uint8_t protocol,
                                   std::span<const std::uint8_t> message) {
  Sum sum;
  sum.add(octets(from));
  sum.add(octets(to));
  sum.add(static_cast<std::uint32_t>(message.size()));
  sum.add(protocol);
  sum.add(message);
  return sum.value();
}

/// An IP packet. `payload` with its checksum.
inline Bytes ip_packet(const IpAddress& from, const IpAddress& to, std::uint8_t protocol, std::uint8_t hops,
                       const Bytes& payload, const Bytes& options = {}, std::uint16_t fragment = 0x4000) {
  if (from.family() == Family::ipv6) {
    Bytes header(8);
    header[0] = 0x60;
    put16(header, 4, static_cast<std::uint32_t>(payload.size()));
    header[6] = protocol;
    header[7] = hops;
    return header + octets(from) + octets(to) + payload;
  }
  Bytes header(12);
  header[0] = static_cast<std::uint8_t>(0x40U | (5 + options.size() / 4));
  put16(header, 2, static_cast<std::uint32_t>(20 + options.size() + payload.size()));
  put16(header, 4, 0x1234);
  put16(header, 6, fragment);
  header[8] = hops;
  header[9] = protocol;
  header = header + octets(from) + octets(to) + options;
  Sum sum;
  sum.add(header);
  put16(header, 10, sum.value());
  return header + payload;
}

inline Bytes tcp_bytes(const Segment& s) {
  Bytes tcp(20);
  put16(tcp, 0, s.from.port.value);
  put16(tcp, 2, s.to.port.value);
  put32(tcp, 4, s.seq);
  put32(tcp, 8, s.ack);
  tcp[12] = static_cast<std::uint8_t>((5 + s.options.size() / 4) << 4U);
  tcp[13] = s.flags;
  put16(tcp, 14, s.window);
  put16(tcp, 18, s.urgent);
  tcp = tcp + s.options + s.payload;
  put16(tcp, 16, checksum_over(s.from.address, s.to.address, 6, tcp));
  return tcp;
}
inline Bytes packet_of(const Segment& s) {
  return ip_packet(s.from.address, s.to.address, 6, s.hops, tcp_bytes(s), s.ip_options);
}

inline Bytes frame_of(const Bytes& packet, const std::array<std::uint8_t, 6>& to) {
  Bytes header(to.begin(), to.end());
  header = header + Bytes{2, 0, 0, 0, 0, 9};
  return header + (packet[0] >> 4U == 4 ? Bytes{0x08, 0x00} : Bytes{0x86, 0xdd}) + packet;
}

/// A packet taken apart as far as its transport header.
struct Parsed {
  IpAddress from;
  IpAddress to;
  std::uint8_t protocol = 0;
  std::uint8_t hops = 0;
  Bytes options;
  Bytes payload;
};
/// Empty where the length or the header's checksum is wrong. `quoted`: it may be cut off.
inline std::optional<Parsed> parse_ip(std::span<const std::uint8_t> packet, bool quoted = false) {
  Parsed parsed;
  std::array<std::uint8_t, 16> address{};
  const bool ipv4 = packet[0] >> 4U == 4;
  const std::size_t header = ipv4 ? (packet[0] & 15U) * 4U : 40U;
  const std::size_t length = ipv4 ? get16(packet, 2) : 40 + get16(packet, 4);
  if (quoted ? length < packet.size() : length != packet.size()) return std::nullopt;
  if (ipv4) {
    Sum sum;
    sum.add(packet.first(header));
    if (sum.value() != 0) return std::nullopt;
    parsed.protocol = packet[9];
    parsed.hops = packet[8];
    std::copy_n(packet.begin() + 12, 4, address.begin());
    parsed.from = IpAddress::from_bytes(Family::ipv4, address);
    std::copy_n(packet.begin() + 16, 4, address.begin());
    parsed.to = IpAddress::from_bytes(Family::ipv4, address);
    parsed.options.assign(packet.begin() + 20, packet.begin() + static_cast<std::ptrdiff_t>(header));
  } else {
    parsed.protocol = packet[6];
    parsed.hops = packet[7];
    std::copy_n(packet.begin() + 8, 16, address.begin());
    parsed.from = IpAddress::from_bytes(Family::ipv6, address);
    std::copy_n(packet.begin() + 24, 16, address.begin());
    parsed.to = IpAddress::from_bytes(Family::ipv6, address);
  }
  parsed.payload.assign(packet.begin() + static_cast<std::ptrdiff_t>(header), packet.end());
  return parsed;
}
inline std::optional<Segment> parse_segment(std::span<const std::uint8_t> packet) {
  const auto ip = parse_ip(packet);
  if (!ip || ip->protocol != 6 || checksum_over(ip->from, ip->to, 6, ip->payload) != 0) return std::nullopt;
  const Bytes& tcp = ip->payload;
  const auto header = static_cast<std::ptrdiff_t>((tcp[12] >> 4U) * 4U);
  return Segment{.from = {.address = ip->from, .port = Port{static_cast<std::uint16_t>(get16(tcp, 0))}},
                 .to = {.address = ip->to, .port = Port{static_cast<std::uint16_t>(get16(tcp, 2))}},
                 .seq = get32(tcp, 4),
                 .ack = get32(tcp, 8),
                 .flags = tcp[13],
                 .window = static_cast<std::uint16_t>(get16(tcp, 14)),
                 .urgent = static_cast<std::uint16_t>(get16(tcp, 18)),
                 .options = {tcp.begin() + 20, tcp.begin() + header},
                 .payload = {tcp.begin() + header, tcp.end()},
                 .hops = ip->hops,
                 .ip_options = ip->options};
}

/// An error from `reporter` about `quoted` (a packet), with eight octets of its transport header or all of it.
inline Bytes icmp_error(const IpAddress& reporter, const IpAddress& to, std::uint8_t type, std::uint8_t code,
                        std::uint32_t rest, const Bytes& quoted) {
  Bytes message(8);
  message[0] = type;
  message[1] = code;
  put32(message, 4, rest);
  message = message + quoted;
  const bool ipv4 = to.family() == Family::ipv4;
  Sum sum;
  sum.add(message);
  put16(message, 2, ipv4 ? sum.value() : checksum_over(reporter, to, 58, message));
  return ip_packet(reporter, to, ipv4 ? 1 : 58, 64, message);
}

}  // namespace limpid::segments
