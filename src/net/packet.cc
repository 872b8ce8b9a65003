// Headers and checksums by hand. Every number names its place in the RFC that fixes it.
#include "net/packet.h"

#include <endian.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/big_endian.h"

namespace limpid {
namespace {

constexpr std::size_t kIpv4HeaderBytes = 20;
constexpr std::size_t kIpv6HeaderBytes = 40;
constexpr std::size_t kUdpHeaderBytes = 8;
constexpr std::size_t kIcmpHeaderBytes = 8;
constexpr std::size_t kTcpHeaderBytes = 20;
constexpr std::size_t kFragmentHeaderBytes = 8;
/// The precedence of ICMP errors: RFC 1812 section 4.3.2.5.
constexpr std::uint8_t kInternetworkControl = 0xc0;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kIcmp = 1;
constexpr std::uint8_t kIcmpv6 = 58;
constexpr std::uint8_t kFragment = 44;
/// RFC 4443 section 2.4(c): an error must fit the smallest IPv6 MTU. Used for IPv4 as well, which asks for eight bytes
/// only.
constexpr std::size_t kMostQuotedBytes = 512;

void put8(std::span<std::byte> out, std::size_t at, std::uint8_t value) {
  out[at] = static_cast<std::byte>(value);
}
void put16(std::span<std::byte> out, std::size_t at, std::size_t value) {
  put8(out, at, static_cast<std::uint8_t>(value >> 8U));
  put8(out, at + 1, static_cast<std::uint8_t>(value & 0xffU));
}
void put32(std::span<std::byte> out, std::size_t at, std::uint32_t value) {
  put16(out, at, value >> 16U);
  put16(out, at + 2, value & 0xffffU);
}
void put_address(std::span<std::byte> out, std::size_t at, const IpAddress& address) {
  std::memcpy(out.subspan(at).data(), address.bytes().data(), address.bits() / 8);
}

/// The Internet checksum (RFC 1071), over several pieces of which only the last may be of odd length.
class Checksum {
 public:
  void add(std::span<const std::byte> bytes) noexcept {
    std::size_t at = 0;
    // Whatever is added in larger words folds to the same: 2^16 is 1 modulo 0xffff (RFC 1071, section 2 (C)).
    for (; at + sizeof(std::uint64_t) <= bytes.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, sizeof word);
      word = be64toh(word);
      sum_ += (word >> 32U) + (word & 0xffffffffU);
    }
    for (; at + 1 < bytes.size(); at += 2) sum_ += big_endian16(bytes, at);
    if (at < bytes.size()) sum_ += std::to_integer<std::uint64_t>(bytes[at]) << 8U;
  }
  void add(std::uint64_t value) noexcept { sum_ += value; }
  [[nodiscard]] std::uint16_t fold() const noexcept {
    std::uint64_t sum = sum_;
    while ((sum >> 16U) != 0) sum = (sum & 0xffffU) + (sum >> 16U);
    return static_cast<std::uint16_t>(~sum);
  }

 private:
  std::uint64_t sum_ = 0;
};

/// The pseudo-header that UDP and ICMPv6 checksums cover (RFC 768; RFC 8200 section 8.1).
void add_pseudo_header(Checksum& checksum, const IpAddress& from, const IpAddress& to, std::uint8_t protocol,
                       std::size_t length) {
  const auto address_bytes = from.bits() / 8;
  checksum.add(std::as_bytes(std::span(from.bytes()).first(address_bytes)));
  checksum.add(std::as_bytes(std::span(to.bytes()).first(address_bytes)));
  checksum.add(protocol);
  checksum.add(length);
}

std::size_t ip_header_bytes(Family family) {
  return family == Family::ipv4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
}

void write_ip_header(std::span<std::byte> out, const IpAddress& from, const IpAddress& to, std::uint8_t protocol,
                     std::size_t payload_bytes, const HopFields& fields) {
  if (from.family() == Family::ipv4) {
    put8(out, 0, 0x45);  // version 4, five words
    put8(out, 1, fields.traffic_class);
    put16(out, 2, kIpv4HeaderBytes + payload_bytes);
    put16(out, 4, 0);  // identification: the kernel fills a zero in (raw(7)); fragments bring their own
    put16(out, 6, 0);
    put8(out, 8, fields.ttl);
    put8(out, 9, protocol);
    put16(out, 10, 0);
    put_address(out, 12, from);
    put_address(out, 16, to);
    Checksum checksum;
    checksum.add(out.first(kIpv4HeaderBytes));
    put16(out, 10, checksum.fold());
    return;
  }
  put32(out, 0, 0x60000000U | (std::uint32_t{fields.traffic_class} << 20U));
  put16(out, 4, payload_bytes);
  put8(out, 6, protocol);
  put8(out, 7, fields.ttl);
  put_address(out, 8, from);
  put_address(out, 24, to);
}

}  // namespace

std::span<std::byte> write_udp_headers(std::span<std::byte> headers, const SocketAddress& from, const SocketAddress& to,
                                       std::span<const std::byte> payload, const HopFields& fields) {
  const std::size_t ip_bytes = ip_header_bytes(from.family());
  const std::size_t udp_bytes = kUdpHeaderBytes + payload.size();
  const auto out = headers.first(ip_bytes + kUdpHeaderBytes);
  write_ip_header(out, from.address, to.address, kUdp, udp_bytes, fields);
  const auto udp = out.subspan(ip_bytes);
  put16(udp, 0, from.port.value);
  put16(udp, 2, to.port.value);
  put16(udp, 4, udp_bytes);
  put16(udp, 6, 0);
  Checksum checksum;
  add_pseudo_header(checksum, from.address, to.address, kUdp, udp_bytes);
  checksum.add(udp);
  checksum.add(payload);
  const std::uint16_t sum = checksum.fold();
  put16(udp, 6, sum == 0 ? 0xffff : sum);  // zero would mean "none"
  return out;
}

std::vector<std::byte> build_datagram(const SocketAddress& from, const SocketAddress& to,
                                      std::span<const std::byte> payload, const HopFields& fields) {
  std::array<std::byte, kMostUdpHeaderBytes> space{};
  const auto headers = write_udp_headers(space, from, to, payload, fields);
  std::vector<std::byte> packet(headers.begin(), headers.end());
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}

namespace {

/// `words_and_flags`: the header's length and its flags, as they stand in it.
std::vector<std::byte> build_segment(const SocketAddress& from, const SocketAddress& to, std::uint32_t sequence,
                                     std::uint16_t words_and_flags, std::uint16_t window, const HopFields& fields) {
  const std::size_t ip_bytes = ip_header_bytes(from.family());
  std::vector<std::byte> packet(ip_bytes + kTcpHeaderBytes);
  const std::span<std::byte> out(packet);
  write_ip_header(out, from.address, to.address, kTcp, kTcpHeaderBytes, fields);
  const auto tcp = out.subspan(ip_bytes);
  put16(tcp, 0, from.port.value);
  put16(tcp, 2, to.port.value);
  put32(tcp, 4, sequence);
  put16(tcp, 12, words_and_flags);
  put16(tcp, 14, window);
  Checksum checksum;
  add_pseudo_header(checksum, from.address, to.address, kTcp, kTcpHeaderBytes);
  checksum.add(tcp);
  put16(tcp, 16, checksum.fold());
  return packet;
}

}  // namespace

std::vector<std::byte> build_syn(const SocketAddress& from, const SocketAddress& to, std::uint32_t sequence,
                                 const HopFields& fields) {
  return build_segment(from, to, sequence, 0x5002, 64240, fields);
}

std::vector<std::byte> build_reset(const SocketAddress& from, const SocketAddress& to, std::uint32_t sequence,
                                   const HopFields& fields) {
  return build_segment(from, to, sequence, 0x5004, 0, fields);
}

std::vector<std::vector<std::byte>> fragment_packet(std::span<const std::byte> packet, std::size_t mtu,
                                                    std::uint32_t identification) {
  const bool ipv4 = (std::to_integer<unsigned>(packet[0]) >> 4U) == 4;
  const std::size_t ip_bytes = ipv4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
  const std::size_t head_bytes = ipv4 ? ip_bytes : ip_bytes + kFragmentHeaderBytes;
  const std::size_t piece_bytes = (mtu - head_bytes) / 8 * 8;  // offsets count in units of eight bytes
  const auto payload = packet.subspan(ip_bytes);
  std::vector<std::vector<std::byte>> fragments;
  for (std::size_t offset = 0; offset < payload.size(); offset += piece_bytes) {
    const auto piece = payload.subspan(offset, std::min(piece_bytes, payload.size() - offset));
    const bool more = offset + piece.size() < payload.size();
    std::vector<std::byte> fragment(head_bytes + piece.size());
    const std::span<std::byte> out(fragment);
    std::ranges::copy(packet.first(ip_bytes), fragment.begin());
    std::ranges::copy(piece, fragment.begin() + static_cast<std::ptrdiff_t>(head_bytes));
    if (ipv4) {
      put16(out, 2, fragment.size());
      put16(out, 4, identification & 0xffffU);
      put16(out, 6, (more ? 0x2000U : 0U) | (offset / 8));
      put16(out, 10, 0);
      Checksum checksum;
      checksum.add(out.first(kIpv4HeaderBytes));
      put16(out, 10, checksum.fold());
    } else {
      put16(out, 4, kFragmentHeaderBytes + piece.size());
      put8(out, 6, kFragment);
      put8(out, ip_bytes, std::to_integer<std::uint8_t>(packet[6]));
      put16(out, ip_bytes + 2, offset | (more ? 1U : 0U));
      put32(out, ip_bytes + 4, identification);
    }
    fragments.push_back(std::move(fragment));
  }
  return fragments;
}

IcmpError port_unreachable(Family family) noexcept {
  return family == Family::ipv4 ? IcmpError{.type = 3, .code = 3} : IcmpError{.type = 1, .code = 4};
}

IcmpError time_exceeded(Family family) noexcept {
  return family == Family::ipv4 ? IcmpError{.type = 11, .code = 0} : IcmpError{.type = 3, .code = 0};
}

std::vector<std::byte> build_icmp_error(const IcmpError& error, const IpAddress& reporter, const SocketAddress& to,
                                        const SocketAddress& about, std::span<const std::byte> payload,
                                        const HopFields& fields) {
  std::array<std::byte, kMostUdpHeaderBytes> quoted_headers{};
  const auto quoted = write_udp_headers(quoted_headers, to, about, payload, fields);
  const auto quoted_payload = payload.first(std::min(payload.size(), kMostQuotedBytes));

  const bool ipv4 = reporter.family() == Family::ipv4;
  const std::size_t ip_bytes = ip_header_bytes(reporter.family());
  const std::size_t icmp_bytes = kIcmpHeaderBytes + quoted.size() + quoted_payload.size();
  std::vector<std::byte> packet(ip_bytes + icmp_bytes);
  const std::span<std::byte> out(packet);
  write_ip_header(out, reporter, to.address, ipv4 ? kIcmp : kIcmpv6, icmp_bytes,
                  {.ttl = 64, .traffic_class = ipv4 ? kInternetworkControl : std::uint8_t{0}});
  const auto icmp = out.subspan(ip_bytes);
  put8(icmp, 0, error.type);
  put8(icmp, 1, error.code);
  put32(icmp, 4, error.rest);
  std::ranges::copy(quoted, icmp.subspan(kIcmpHeaderBytes).begin());
  std::ranges::copy(quoted_payload, icmp.subspan(kIcmpHeaderBytes + quoted.size()).begin());
  Checksum checksum;
  if (!ipv4) add_pseudo_header(checksum, reporter, to.address, kIcmpv6, icmp_bytes);
  checksum.add(icmp);
  put16(icmp, 2, checksum.fold());
  return packet;
}

}  // namespace limpid
