// Packets built by hand, checked the slow way: every checksum is verified as a receiver would, fragments are put together again.
#include "net/packet.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace limpid {
namespace {

using Bytes = std::vector<std::byte>;

unsigned at8(std::span<const std::byte> bytes, std::size_t at) {
  return std::to_integer<unsigned>(bytes[at]);
}
unsigned at16(std::span<const std::byte> bytes, std::size_t at) {
  return at8(bytes, at) << 8U | at8(bytes, at + 1);
}

/// RFC 1071: the sum over everything, checksum included, is all ones.
unsigned sum(std::span<const std::byte> bytes, unsigned start = 0) {
  std::uint64_t total = start;
  for (std::size_t i = 0; i < bytes.size(); ++i) total += at8(bytes, i) << (i % 2 == 0 ? 8U : 0U);
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16U);
  return static_cast<unsigned>(total);
}

unsigned pseudo_header(std::span<const std::byte> addresses, unsigned protocol, std::size_t length) {
  return sum(addresses, static_cast<unsigned>(protocol + length));
}

Bytes random_payload(std::size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  Bytes payload(size);
  for (auto& byte : payload) byte = static_cast<std::byte>(random());
  return payload;
}

Bytes datagram(const SocketAddress& from, const SocketAddress& to, const Bytes& payload) {
  std::array<std::byte, kMostUdpHeaderBytes> headers{};
  const auto used = write_udp_headers(headers, from, to, payload, {.ttl = 17, .traffic_class = 0xb8});
  Bytes packet(used.begin(), used.end());
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}

class Packet : public testing::TestWithParam<Family> {
 protected:
  [[nodiscard]] bool ipv4() const { return GetParam() == Family::ipv4; }
  [[nodiscard]] std::size_t ip_bytes() const { return ipv4() ? 20 : 40; }
  SocketAddress from_ = SocketAddress::parse(ipv4() ? "198.51.100.2:53" : "[2001:db8:2::2]:53").value();
  SocketAddress to_ = SocketAddress::parse(ipv4() ? "192.0.2.2:40000" : "[2001:db8:1::2]:40000").value();

  void expect_sound_ip_header(std::span<const std::byte> packet, unsigned protocol) const {
    if (ipv4()) {
      EXPECT_EQ(at8(packet, 0), 0x45U);
      EXPECT_EQ(at16(packet, 2), packet.size());
      EXPECT_EQ(at8(packet, 9), protocol);
      EXPECT_EQ(sum(packet.first(20)), 0xffffU);
    } else {
      EXPECT_EQ(at8(packet, 0) >> 4U, 6U);
      EXPECT_EQ(at16(packet, 4), packet.size() - 40);
      EXPECT_EQ(at8(packet, 6), protocol);
    }
  }
  void expect_sound_transport_checksum(std::span<const std::byte> packet, unsigned protocol) const {
    const auto addresses = ipv4() ? packet.subspan(12, 8) : packet.subspan(8, 32);
    const auto body = packet.subspan(ip_bytes());
    EXPECT_EQ(sum(body, pseudo_header(addresses, protocol, body.size())), 0xffffU);
  }
};

TEST_P(Packet, udp_checksums_hold_for_every_kind_of_size) {
  for (const std::size_t size : {0U, 1U, 2U, 3U, 511U, 1472U, 9001U, 65507U}) {
    const auto packet = datagram(from_, to_, random_payload(size));
    expect_sound_ip_header(packet, 17);
    expect_sound_transport_checksum(packet, 17);
    EXPECT_EQ(at16(packet, ip_bytes()), 53U);
    EXPECT_EQ(at16(packet, ip_bytes() + 2), 40000U);
    EXPECT_EQ(at16(packet, ip_bytes() + 4), size + 8);
  }
}

TEST_P(Packet, a_checksum_of_zero_is_sent_as_all_ones) {
  bool met = false;
  for (unsigned value = 0; value < 65536 && !met; ++value) {
    const Bytes payload{static_cast<std::byte>(value >> 8U), static_cast<std::byte>(value)};
    const auto packet = datagram(from_, to_, payload);
    ASSERT_NE(at16(packet, ip_bytes() + 6), 0U) << "zero means that there is no checksum";
    met = at16(packet, ip_bytes() + 6) == 0xffff;
  }
  EXPECT_TRUE(met);
}

TEST_P(Packet, fragments_make_the_packet_again) {
  const auto packet = datagram(from_, to_, random_payload(20'001));
  const std::size_t head = ipv4() ? 20 : 48;
  Bytes whole(packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(ip_bytes()));
  const auto fragments = fragment_packet(packet, 1280, 0x12345678);
  for (std::size_t i = 0; i < fragments.size(); ++i) {
    const std::span<const std::byte> fragment(fragments[i]);
    EXPECT_LE(fragment.size(), 1280U);
    const unsigned field = ipv4() ? at16(fragment, 6) : at16(fragment, 42);
    const std::size_t offset = ipv4() ? (field & 0x1fffU) * 8 : field & 0xfff8U;
    const bool more = ipv4() ? (field & 0x2000U) != 0 : (field & 1U) != 0;
    EXPECT_EQ(offset, whole.size() - ip_bytes());
    EXPECT_EQ(more, i + 1 < fragments.size());
    if (ipv4()) {
      EXPECT_EQ(sum(fragment.first(20)), 0xffffU);
      EXPECT_EQ(at16(fragment, 4), 0x5678U);
    } else {
      EXPECT_EQ(at8(fragment, 6), 44U);
      EXPECT_EQ(at8(fragment, 40), 17U);
    }
    whole.insert(whole.end(), fragment.begin() + static_cast<std::ptrdiff_t>(head), fragment.end());
  }
  EXPECT_TRUE(whole == packet);
}

TEST_P(Packet, an_icmp_error_quotes_what_the_client_sent) {
  const auto payload = random_payload(700);
  const auto packet = build_icmp_error(port_unreachable(GetParam()), from_.address, to_, from_, payload,
                                       {.ttl = 1, .traffic_class = 0xb8});
  const unsigned protocol = ipv4() ? 1 : 58;
  expect_sound_ip_header(packet, protocol);
  const std::span<const std::byte> icmp = std::span<const std::byte>(packet).subspan(ip_bytes());
  if (ipv4()) {
    EXPECT_EQ(sum(icmp), 0xffffU);
    EXPECT_EQ(at16(icmp, 0), 0x0303U);
  } else {
    expect_sound_transport_checksum(packet, protocol);
    EXPECT_EQ(at16(icmp, 0), 0x0104U);
  }
  const auto quoted = icmp.subspan(8);
  EXPECT_EQ(at8(quoted, ipv4() ? 8 : 7), 1U) << "TTL or hop limit";
  EXPECT_EQ(ipv4() ? at8(quoted, 1) : (at16(quoted, 0) >> 4U & 0xffU), 0xb8U);
  EXPECT_EQ(at16(quoted, ip_bytes()), 40000U) << "the client's port comes first in what the client had sent";
  EXPECT_EQ(at16(quoted, ip_bytes() + 2), 53U);
  EXPECT_EQ(at16(quoted, ip_bytes() + 4), 708U) << "the length is that of the whole datagram";
  EXPECT_LE(packet.size(), 1280U);
}

TEST_P(Packet, a_request_for_a_connection) {
  const auto packet = build_syn(from_, to_, 0x12345678, {.ttl = 3});
  expect_sound_ip_header(packet, 6);
  const auto tcp = std::span(packet).subspan(ip_bytes());
  ASSERT_EQ(tcp.size(), 20U);
  EXPECT_EQ(at16(tcp, 0), 53U);
  EXPECT_EQ(at16(tcp, 2), 40000U);
  EXPECT_EQ(at16(tcp, 4) << 16U | at16(tcp, 6), 0x12345678U);
  EXPECT_EQ(at8(tcp, 13), 2U) << "SYN, and nothing else";
  const auto addresses = std::span(packet).subspan(ipv4() ? 12 : 8, ipv4() ? 8 : 32);
  EXPECT_EQ(sum(tcp, pseudo_header(addresses, 6, tcp.size())), 0xffffU);
}

TEST_P(Packet, a_whole_datagram_is_its_headers_and_its_payload) {
  const auto payload = random_payload(99);
  EXPECT_EQ(build_datagram(from_, to_, payload, {.ttl = 17, .traffic_class = 0xb8}), datagram(from_, to_, payload));
}

INSTANTIATE_TEST_SUITE_P(Families, Packet, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return std::string(to_string(each.param)); });

}  // namespace
}  // namespace limpid
