// Long headers. The bit after the first, "fixed" in RFC 9000, is not looked at: RFC 9287 lets clients grease it, and what is no packet
// does not survive decryption.
#include "sniff/quic_packet.h"

#include "sniff/byte_reader.h"

namespace limpid {
namespace {

constexpr std::uint32_t kLongHeader = 0x80;
constexpr std::uint32_t kRetryV1 = 3;

}  // namespace

bool take_quic_packet(std::span<const std::byte>& datagram, QuicPacket& packet) noexcept {
  ByteReader reader(datagram);
  const std::uint32_t first = reader.number(1);
  const std::uint32_t version = reader.number(4);
  const auto destination = reader.vector(1);
  const auto source = reader.vector(1);
  if (!reader.ok() || (first & kLongHeader) == 0) return false;
  if (version != static_cast<std::uint32_t>(QuicVersion::v1) && version != static_cast<std::uint32_t>(QuicVersion::v2))
    return false;
  if (destination.size() > QuicConnectionId::kMostBytes || source.size() > QuicConnectionId::kMostBytes) return false;
  packet.version = static_cast<QuicVersion>(version);
  packet.destination = QuicConnectionId(destination);

  // Version 2 shifts the four types by one (RFC 9369 section 3.2): Initial is 0 in version 1, 1 in version 2.
  const std::uint32_t shift = packet.version == QuicVersion::v2 ? 1 : 0;
  const std::uint32_t type = ((first >> 4U) - shift) & 3U;
  if (type == kRetryV1) return false;
  packet.initial = type == 0;
  packet.has_token = false;
  if (packet.initial) {
    const std::uint64_t token_bytes = reader.variable_number();
    if (token_bytes > reader.left()) return false;
    reader.take(static_cast<std::size_t>(token_bytes));
    packet.has_token = token_bytes != 0;
  }
  const std::uint64_t length = reader.variable_number();
  if (!reader.ok() || length > reader.left()) return false;
  packet.packet_number_at = datagram.size() - reader.left();
  const std::size_t whole = packet.packet_number_at + static_cast<std::size_t>(length);
  packet.bytes = datagram.first(whole);
  datagram = datagram.subspan(whole);
  return true;
}

bool begins_quic(std::span<const std::byte> datagram) noexcept {
  QuicPacket packet;
  return take_quic_packet(datagram, packet);
}

}  // namespace limpid
