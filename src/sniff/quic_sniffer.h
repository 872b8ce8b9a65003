// The name in a QUIC handshake, out of the datagrams that a client sends first. One for each UDP session that waits for a name; whoever
// owns it gives it the session's datagrams in the order of their arrival, until it has an answer, and then throws it away.
//
// Theory of operation. An Initial's keys follow from the destination connection id of the client's first one (RFC 9001 section 5.2). They
// are kept, because later Initials may carry the id that the server chose. New keys are taken where an Initial asks for them rightly: after
// a Retry, which shows in a token, or with another version; then everything begins anew. What a server would drop is dropped here, too, so
// that nobody can show a name to us and another one to the server: Initials in datagrams below 1,200 bytes, coalesced packets to another
// connection id, whatever does not decrypt. What a server would close the connection for ends in `unknown`.
// The first Initial that fails ends in `unknown` as well: nothing can follow from it, the keys are those of a connection that began
// before we looked, or there are none. 0-RTT packets may come before it, and are skipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "sniff/crypto_assembly.h"
#include "sniff/quic_crypto.h"
#include "sniff/quic_packet.h"
#include "sniff/sniffed.h"

namespace limpid {

class QuicSniffer {
 public:
  /// After so many datagrams without an answer the session is unknown.
  static constexpr unsigned kMostDatagrams = 16;
  /// A datagram has one, or two when a client repeats itself.
  static constexpr unsigned kMostInitialsInDatagram = 4;
  /// Below it a server discards an Initial (RFC 9000 section 14.1).
  static constexpr std::size_t kLeastDatagramBytes = 1200;
  /// Jumbo frames and more; a larger packet is malformed to us.
  static constexpr std::size_t kMostPacketBytes = 16UL * 1024;

  /// The next datagram, which is only read. After an answer other than `more` it is not to be called again.
  [[nodiscard]] SniffOutcome take(QuicCrypto& crypto, std::span<const std::byte> datagram, Sniffed& sniffed) noexcept;

 private:
  enum class Step : std::uint8_t { done, ignored, malformed, too_long };
  Step take_initial(QuicCrypto& crypto, const QuicPacket& packet) noexcept;
  std::optional<OpenedQuicPacket> open_packet(QuicCrypto& crypto, const QuicPacket& packet,
                                              std::span<std::byte> plain) noexcept;
  Step take_frames(std::span<const std::byte> payload) noexcept;
  Step take_crypto_frame(std::uint64_t offset, std::span<const std::byte> data) noexcept;
  SniffOutcome answer(Sniffed& sniffed) const noexcept;

  CryptoAssembly assembly_;
  QuicInitialKeys keys_;
  QuicConnectionId destination_;
  std::uint64_t next_number_ = 0;  ///< one more than the largest packet number so far
  QuicVersion version_ = QuicVersion::v1;
  unsigned datagrams_ = 0;
  bool opened_any_ = false;
};
static_assert(sizeof(QuicSniffer) <= 9400);  // for each UDP session that waits for a name

}  // namespace limpid
