// From datagrams to a ClientHello. The bytes that libcrypto decrypts stand on the stack for as long as their frames are read.
#include "sniff/quic_sniffer.h"

#include <array>

#include "sniff/byte_reader.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

/// RFC 9000 section 7.2: what a client draws itself is at least so long.
constexpr std::size_t kLeastFirstDestinationBytes = 8;
constexpr std::size_t kHandshakeHeaderBytes = 4;
constexpr unsigned kClientHello = 1;

/// The frames that Initial packets may have (RFC 9000 section 12.4).
enum FrameType : std::uint8_t {
  frame_padding = 0x00,
  frame_ping = 0x01,
  frame_ack = 0x02,
  frame_ack_ecn = 0x03,
  frame_crypto = 0x06,
};

/// RFC 9000 section 19.3.
void skip_ack(ByteReader& reader, bool with_ecn_counts) noexcept {
  reader.variable_number();  // largest acknowledged
  reader.variable_number();  // delay
  const std::uint64_t ranges = reader.variable_number();
  reader.variable_number();  // the first range
  for (std::uint64_t i = 0; i < ranges && reader.ok(); ++i) {
    reader.variable_number();
    reader.variable_number();
  }
  for (int i = 0; i < 3 && with_ecn_counts; ++i) reader.variable_number();
}

}  // namespace

SniffOutcome QuicSniffer::take(QuicCrypto& crypto, std::span<const std::byte> datagram, Sniffed& sniffed) noexcept {
  sniffed = {};
  sniffed.protocol = SniffedProtocol::quic;
  if (++datagrams_ > kMostDatagrams) return doubt(sniffed, Doubt::too_long);
  unsigned packets = 0;
  unsigned initials = 0;
  QuicPacket packet;
  QuicConnectionId first_destination;
  for (auto rest = datagram; take_quic_packet(rest, packet); ++packets) {
    // RFC 9000 section 12.2: what is coalesced has one destination.
    if (packets == 0) first_destination = packet.destination;
    if (!packet.initial || !(packet.destination == first_destination)) continue;
    if (++initials > kMostInitialsInDatagram) return doubt(sniffed, Doubt::malformed);
    if (datagram.size() < kLeastDatagramBytes) continue;
    switch (take_initial(crypto, packet)) {
      case Step::done:
      case Step::ignored: break;
      case Step::malformed: return doubt(sniffed, Doubt::malformed);
      case Step::too_long: return doubt(sniffed, Doubt::too_long);
    }
  }
  if (opened_any_) return answer(sniffed);
  if (initials != 0) return doubt(sniffed, Doubt::malformed);
  if (packets != 0) return SniffOutcome::more;  // 0-RTT that overtook its Initial
  sniffed.protocol = SniffedProtocol::none;
  return doubt(sniffed, Doubt::unrecognised);
}

QuicSniffer::Step QuicSniffer::take_initial(QuicCrypto& crypto, const QuicPacket& packet) noexcept {
  if (packet.bytes.size() > kMostPacketBytes) return Step::malformed;
  std::array<std::byte, kMostPacketBytes> plain;  // NOLINT(*-member-init): filled as far as it is read
  const auto opened = open_packet(crypto, packet, plain);
  if (!opened) return Step::ignored;
  opened_any_ = true;
  next_number_ = std::max(next_number_, opened->number + 1);
  if (opened->reserved_bits || opened->payload.empty()) return Step::malformed;
  return take_frames(opened->payload);
}

std::optional<OpenedQuicPacket> QuicSniffer::open_packet(QuicCrypto& crypto, const QuicPacket& packet,
                                                         std::span<std::byte> plain) noexcept {
  const bool same_version = packet.version == version_;
  if (opened_any_) {
    if (same_version) {
      if (auto opened = crypto.open_packet(keys_, packet, next_number_, plain)) return opened;
    }
    const bool begins_anew = !same_version || (packet.has_token && !(packet.destination == destination_));
    if (!begins_anew) return std::nullopt;
  }
  if (packet.destination.view().size() < kLeastFirstDestinationBytes && !packet.has_token) return std::nullopt;
  QuicInitialKeys keys;
  if (!crypto.derive_client_keys(packet.version, packet.destination.view(), keys)) return std::nullopt;
  auto opened = crypto.open_packet(keys, packet, 0, plain);
  if (!opened) return std::nullopt;
  keys_ = keys;
  version_ = packet.version;
  destination_ = packet.destination;
  next_number_ = 0;
  assembly_.clear();
  return opened;
}

QuicSniffer::Step QuicSniffer::take_frames(std::span<const std::byte> payload) noexcept {
  ByteReader reader(payload);
  while (!reader.empty()) {
    const std::uint32_t type = reader.number(1);  // in its shortest form, which is one byte for all of these
    switch (type) {
      case frame_padding:
      case frame_ping: break;
      case frame_ack:
      case frame_ack_ecn: skip_ack(reader, type == frame_ack_ecn); break;
      case frame_crypto: {
        const std::uint64_t offset = reader.variable_number();
        const std::uint64_t length = reader.variable_number();
        if (!reader.ok() || length > reader.left()) return Step::malformed;
        const Step step = take_crypto_frame(offset, reader.take(static_cast<std::size_t>(length)));
        if (step != Step::done) return step;
        break;
      }
      default:
        return Step::malformed;  // CONNECTION_CLOSE is another one that is allowed: there is no name to come then
    }
    if (!reader.ok()) return Step::malformed;
  }
  return Step::done;
}

QuicSniffer::Step QuicSniffer::take_crypto_frame(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  switch (assembly_.add(offset, data)) {
    case CryptoAssembly::Added::stored: break;
    case CryptoAssembly::Added::contradiction: return Step::malformed;
    case CryptoAssembly::Added::too_long: return Step::too_long;
  }
  return Step::done;
}

SniffOutcome QuicSniffer::answer(Sniffed& sniffed) const noexcept {
  const auto message = assembly_.contiguous();
  if (message.empty()) return SniffOutcome::more;
  ByteReader reader(message);
  if (reader.number(1) != kClientHello) return doubt(sniffed, Doubt::malformed);
  const std::size_t length = reader.number(3);
  if (!reader.ok()) return SniffOutcome::more;
  if (length > CryptoAssembly::kMostBytes - kHandshakeHeaderBytes) return doubt(sniffed, Doubt::too_long);
  if (reader.left() < length) return SniffOutcome::more;
  if (parse_client_hello(reader.take(length), sniffed)) return SniffOutcome::found;
  sniffed.name.clear();
  sniffed.alpn = {};
  sniffed.ech = false;
  return doubt(sniffed, Doubt::malformed);
}

}  // namespace limpid
