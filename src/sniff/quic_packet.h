// The part of QUIC's packets that is readable without keys (RFC 8999, RFC 9000 section 17.2, RFC 9369 section 3.2). For stream.cc, which
// asks whether it is one, and for QuicSniffer.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace limpid {

enum class QuicVersion : std::uint32_t {
  v1 = 0x00000001,  ///< RFC 9000
  v2 = 0x6b3343cf,  ///< RFC 9369
};

/// At most 20 bytes in both versions.
class QuicConnectionId {
 public:
  static constexpr std::size_t kMostBytes = 20;

  QuicConnectionId() noexcept = default;
  /// `bytes` are at most 20.
  explicit QuicConnectionId(std::span<const std::byte> bytes) noexcept
      : length_(static_cast<std::uint8_t>(bytes.size())) {
    std::ranges::copy(bytes, bytes_.begin());
  }
  [[nodiscard]] std::span<const std::byte> view() const noexcept { return std::span(bytes_).first(length_); }
  friend bool operator==(const QuicConnectionId& one, const QuicConnectionId& other) noexcept {
    return std::ranges::equal(one.view(), other.view());
  }

 private:
  std::array<std::byte, kMostBytes> bytes_{};
  std::uint8_t length_ = 0;
};

/// A packet with a long header and a length, that is, one which others may follow in the same datagram.
struct QuicPacket {
  QuicVersion version = QuicVersion::v1;
  bool initial = false;    ///< otherwise 0-RTT or Handshake
  bool has_token = false;  ///< of an Initial: from a Retry or an earlier connection
  QuicConnectionId destination;
  std::span<const std::byte> bytes;  ///< all of it
  std::size_t packet_number_at = 0;  ///< where, in `bytes`, what is protected begins
};

/// Takes the first packet off the datagram. False, and nothing is taken: a short header, which reaches to the end; a version that is not
/// spoken here; Version Negotiation and Retry, which clients do not send; or no QUIC at all.
[[nodiscard]] bool take_quic_packet(std::span<const std::byte>& datagram, QuicPacket& packet) noexcept;

/// Whether the datagram may belong to the beginning of a connection that QuicSniffer understands.
[[nodiscard]] bool begins_quic(std::span<const std::byte> datagram) noexcept;

}  // namespace limpid
