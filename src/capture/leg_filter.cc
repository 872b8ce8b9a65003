// The program is a row of alternatives: tests that must all hold, then "accept". A test that fails leads to the next alternative; a load beyond the packet's end refuses the
// packet (Documentation/networking/filter.rst), so each alternative first makes sure of the protocol whose fields it loads.
#include "capture/leg_filter.h"

#include <netinet/in.h>

#include <array>
#include <utility>

#include "base/big_endian.h"

namespace limpid {
namespace {

constexpr std::uint16_t kLoadByte = BPF_LD | BPF_B | BPF_ABS;
constexpr std::uint16_t kLoadHalf = BPF_LD | BPF_H | BPF_ABS;
constexpr std::uint16_t kLoadWord = BPF_LD | BPF_W | BPF_ABS;
constexpr std::uint16_t kLoadWordBehindHeader =
    BPF_LD | BPF_W | BPF_IND;  ///< behind the IPv4 header, whose length is in X
constexpr std::uint16_t kLoadByteBehindHeader = BPF_LD | BPF_B | BPF_IND;
constexpr std::uint32_t kIpv4HeaderBytes = 20;
constexpr std::uint32_t kIpv6HeaderBytes = 40;
constexpr std::uint32_t kIcmpHeaderBytes = 8;
constexpr std::uint32_t kFragmentOffset = 0x1fff;

/// Where the fields of an IP header stand that we look at, from its beginning.
struct HeaderFields {
  std::uint32_t protocol;
  std::uint32_t source;
  std::uint32_t destination;
  std::uint32_t address_bytes;
};
constexpr HeaderFields kIpv4Fields{.protocol = 9, .source = 12, .destination = 16, .address_bytes = 4};
constexpr HeaderFields kIpv6Fields{.protocol = 6, .source = 8, .destination = 24, .address_bytes = 16};

const HeaderFields& fields_of(Family family) {
  return family == Family::ipv4 ? kIpv4Fields : kIpv6Fields;
}

std::uint32_t protocol_of(Transport transport) {
  if (transport == Transport::tcp) return IPPROTO_TCP;
  return IPPROTO_UDP;
}

std::uint32_t icmp_of(Family family) {
  if (family == Family::ipv4) return IPPROTO_ICMP;
  return IPPROTO_ICMPV6;
}

Family family_of(const LegEnds& leg) {
  return leg.client_side.port.value != 0 ? leg.client_side.family() : leg.target_side.family();
}

class Program {
 public:
  explicit Program(std::uint32_t snaplen) : snaplen_(snaplen) {}

  void load(std::uint16_t code, std::uint32_t at) { add(code, at); }
  void mask(std::uint32_t bits) { add(BPF_ALU | BPF_AND | BPF_K, bits); }
  /// What was loaded must be this.
  void expect(std::uint32_t value) {
    open_.push_back(code_.size());
    add(BPF_JMP | BPF_JEQ | BPF_K, value);
  }
  /// X becomes the length of the IPv4 header.
  void measure_ipv4_header() { add(BPF_LDX | BPF_B | BPF_MSH, 0); }
  /// The end of an alternative.
  void accept() {
    add(BPF_RET | BPF_K, snaplen_);
    for (const std::size_t jump : open_) code_[jump].jf = static_cast<std::uint8_t>(code_.size() - jump - 1);
    open_.clear();
  }
  [[nodiscard]] std::vector<sock_filter> finish() {
    add(BPF_RET | BPF_K, 0);
    return std::move(code_);
  }

 private:
  void add(int code, std::uint32_t k) {
    code_.push_back({.code = static_cast<std::uint16_t>(code), .jt = 0, .jf = 0, .k = k});
  }
  std::uint32_t snaplen_;
  std::vector<sock_filter> code_;
  std::vector<std::size_t> open_;  ///< jumps of this alternative
};

void expect_version(Program& program, Family family) {
  program.load(kLoadByte, 0);
  program.mask(0xf0);
  program.expect(family == Family::ipv4 ? 0x40 : 0x60);
}

void expect_protocol(Program& program, Family family, std::uint32_t protocol) {
  program.load(kLoadByte, fields_of(family).protocol);
  program.expect(protocol);
}

void expect_first_fragment(Program& program) {
  program.load(kLoadHalf, 6);
  program.mask(kFragmentOffset);
  program.expect(0);
}

void expect_address(Program& program, std::uint16_t load, std::uint32_t at, const SocketAddress& end) {
  if (end.port.value == 0 || end.address.is_unspecified()) return;
  const auto& bytes = end.address.bytes();
  for (std::uint32_t i = 0; i < end.address.bits() / 8; i += 4) {
    program.load(load, at + i);
    program.expect(std::uint32_t{bytes[i]} << 24U | std::uint32_t{bytes[i + 1]} << 16U |
                   std::uint32_t{bytes[i + 2]} << 8U | bytes[i + 3]);
  }
}

void expect_ports(Program& program, std::uint16_t load, std::uint32_t at, const SocketAddress& from,
                  const SocketAddress& to) {
  const std::uint32_t bits = (from.port.value != 0 ? 0xffff0000U : 0) | (to.port.value != 0 ? 0xffffU : 0);
  program.load(load, at);
  program.mask(bits);
  program.expect(std::uint32_t{from.port.value} << 16U | to.port.value);
}

/// A packet of the flow's own.
void accept_packet(Program& program, Family family, Transport transport, const SocketAddress& from,
                   const SocketAddress& to) {
  const HeaderFields& fields = fields_of(family);
  expect_version(program, family);
  expect_protocol(program, family, protocol_of(transport));
  expect_address(program, kLoadWord, fields.source, from);
  expect_address(program, kLoadWord, fields.destination, to);
  if (family == Family::ipv4) {
    expect_first_fragment(program);
    program.measure_ipv4_header();
    expect_ports(program, kLoadWordBehindHeader, 0, from, to);
  } else {
    expect_ports(program, kLoadWord, kIpv6HeaderBytes, from, to);
  }
  program.accept();
}

/// An ICMP error that quotes such a packet, which was ours or went through here, so it has no options.
void accept_error(Program& program, Family family, Transport transport, const SocketAddress& from,
                  const SocketAddress& to) {
  const HeaderFields& fields = fields_of(family);
  expect_version(program, family);
  expect_protocol(program, family, icmp_of(family));
  if (family == Family::ipv4) {
    expect_first_fragment(program);
    program.measure_ipv4_header();
    program.load(kLoadByteBehindHeader, kIcmpHeaderBytes);
    program.expect(0x45);
    program.load(kLoadByteBehindHeader, kIcmpHeaderBytes + fields.protocol);
    program.expect(protocol_of(transport));
    expect_address(program, kLoadWordBehindHeader, kIcmpHeaderBytes + fields.source, from);
    expect_address(program, kLoadWordBehindHeader, kIcmpHeaderBytes + fields.destination, to);
    expect_ports(program, kLoadWordBehindHeader, kIcmpHeaderBytes + kIpv4HeaderBytes, from, to);
  } else {
    constexpr std::uint32_t kQuoted = kIpv6HeaderBytes + kIcmpHeaderBytes;
    program.load(kLoadByte, kQuoted);
    program.mask(0xf0);
    program.expect(0x60);
    program.load(kLoadByte, kQuoted + fields.protocol);
    program.expect(protocol_of(transport));
    expect_address(program, kLoadWord, kQuoted + fields.source, from);
    expect_address(program, kLoadWord, kQuoted + fields.destination, to);
    expect_ports(program, kLoadWord, kQuoted + kIpv6HeaderBytes, from, to);
  }
  program.accept();
}

// The same in plain code.

unsigned byte_at(std::span<const std::byte> packet, std::size_t at) {
  return std::to_integer<unsigned>(packet[at]);
}

struct PacketEnds {
  SocketAddress from;
  SocketAddress to;
};

/// Of a packet of this protocol that begins here; `inner`: what is left behind its header where it is an ICMP error.
std::optional<PacketEnds> read_ends(std::span<const std::byte> packet, Transport transport,
                                    std::span<const std::byte>* inner) {
  if (packet.empty()) return std::nullopt;
  const unsigned version = byte_at(packet, 0) >> 4U;
  if (version != 4 && version != 6) return std::nullopt;
  const Family family = version == 4 ? Family::ipv4 : Family::ipv6;
  const HeaderFields& fields = fields_of(family);
  const std::size_t header = family == Family::ipv4 ? std::size_t{byte_at(packet, 0) & 0xfU} * 4 : kIpv6HeaderBytes;
  if (packet.size() < header || header < (family == Family::ipv4 ? kIpv4HeaderBytes : kIpv6HeaderBytes))
    return std::nullopt;
  if (family == Family::ipv4 && (big_endian16(packet, 6) & kFragmentOffset) != 0) return std::nullopt;
  const unsigned protocol = byte_at(packet, fields.protocol);
  if (inner != nullptr && protocol == icmp_of(family) && packet.size() >= header + kIcmpHeaderBytes) {
    *inner = packet.subspan(header + kIcmpHeaderBytes);
    return std::nullopt;
  }
  if (protocol != protocol_of(transport) || packet.size() < header + 4) return std::nullopt;
  const auto read = [&](std::uint32_t address_at, std::size_t port_at) {
    std::array<std::uint8_t, 16> bytes{};
    for (std::uint32_t i = 0; i < fields.address_bytes; ++i)
      bytes[i] = static_cast<std::uint8_t>(byte_at(packet, address_at + i));
    return SocketAddress{.address = IpAddress::from_bytes(family, bytes), .port = {big_endian16(packet, port_at)}};
  };
  return PacketEnds{.from = read(fields.source, header), .to = read(fields.destination, header + 2)};
}

bool is_at(const SocketAddress& end, const SocketAddress& found) {
  if (end.port.value == 0) return true;
  if (end.family() != found.family() || end.port != found.port) return false;
  return end.address.is_unspecified() || end.address == found.address;
}

/// Empty: not of this leg.
std::optional<bool> goes_up(const LegEnds& leg, const PacketEnds& packet) {
  if (packet.from.family() != family_of(leg)) return std::nullopt;
  if (is_at(leg.client_side, packet.from) && is_at(leg.target_side, packet.to)) return true;
  if (is_at(leg.target_side, packet.from) && is_at(leg.client_side, packet.to)) return false;
  return std::nullopt;
}

}  // namespace

std::vector<sock_filter> build_filter(const CapturedFlow& flow, std::uint32_t snaplen) {
  Program program(snaplen);
  const auto add = [&](const LegEnds& leg) {
    const Family family = family_of(leg);
    for (const auto& [from, to] :
         {std::pair{leg.client_side, leg.target_side}, std::pair{leg.target_side, leg.client_side}}) {
      accept_packet(program, family, flow.transport, from, to);
      accept_error(program, family, flow.transport, from, to);
    }
  };
  add(flow.client_leg);
  if (flow.target_leg && *flow.target_leg != flow.client_leg) add(*flow.target_leg);
  return program.finish();
}

std::optional<LegOfPacket> find_leg(const CapturedFlow& flow, std::span<const std::byte> packet, bool outgoing) {
  std::span<const std::byte> quoted;
  auto ends = read_ends(packet, flow.transport, &quoted);
  const bool is_error = !ends && !quoted.empty();
  if (is_error) ends = read_ends(quoted, flow.transport, nullptr);
  if (!ends) return std::nullopt;
  const auto on_client_leg = goes_up(flow.client_leg, *ends);
  const auto on_target_leg = flow.target_leg ? goes_up(*flow.target_leg, *ends) : std::nullopt;
  if (!on_client_leg && !on_target_leg) return std::nullopt;
  // An error goes back to whoever has sent what it quotes.
  const bool up = on_client_leg.value_or(on_target_leg.value_or(false)) != is_error;
  if (on_client_leg && on_target_leg) return LegOfPacket{.target_leg = up == outgoing, .up = up};
  return LegOfPacket{.target_leg = on_target_leg.has_value(), .up = up};
}

}  // namespace limpid
