// The keys of QUIC's Initial packets, which whoever sees the packet can compute (RFC 9001 section 5, RFC 9369 section 3.3), and what is
// done with them, by libcrypto. One for each worker: it owns libcrypto's contexts, so that a packet costs no allocation of ours.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "limpid/error.h"
#include "sniff/quic_packet.h"

namespace limpid {

/// A client's.
struct QuicInitialKeys {
  std::array<std::byte, 16> key{};
  std::array<std::byte, 12> iv{};
  std::array<std::byte, 16> header_protection{};
};

struct OpenedQuicPacket {
  std::span<const std::byte> payload;
  std::uint64_t number = 0;
  bool reserved_bits = false;  ///< set, where a receiver closes the connection (RFC 9000 section 17.2)
};

class QuicCrypto {
 public:
  static constexpr std::size_t kTagBytes = 16;
  static constexpr std::size_t kSampleBytes = 16;

  /// Fails where libcrypto does not offer AES-128 or SHA-256: a configuration of its own (openssl.cnf, FIPS) may take them away.
  [[nodiscard]] static Result<QuicCrypto> open();
  QuicCrypto(QuicCrypto&& other) noexcept;
  QuicCrypto& operator=(QuicCrypto&& other) noexcept;
  QuicCrypto(const QuicCrypto&) = delete;
  QuicCrypto& operator=(const QuicCrypto&) = delete;
  ~QuicCrypto();

  /// From the destination of the client's first Initial. False only if libcrypto fails.
  [[nodiscard]] bool derive_client_keys(QuicVersion version, std::span<const std::byte> destination,
                                        QuicInitialKeys& keys) noexcept;

  /// Opens a packet: takes the protection off its header (RFC 9001 section 5.4), then decrypts, and verifies, its payload into `plain`,
  /// which is at least as large as the packet. `expected` is one more than the largest packet number so far, or 0. None: it was not made
  /// with these keys.
  [[nodiscard]] std::optional<OpenedQuicPacket> open_packet(const QuicInitialKeys& keys, const QuicPacket& packet,
                                                            std::uint64_t expected,
                                                            std::span<std::byte> plain) noexcept;

 private:
  struct Contexts;
  explicit QuicCrypto(std::unique_ptr<Contexts> contexts) noexcept;
  bool hmac(std::span<const std::byte> key, std::span<const std::byte> data, std::span<std::byte, 32> out) noexcept;
  bool expand(std::span<const std::byte, 32> secret, std::string_view label, std::span<std::byte> out) noexcept;
  bool header_mask(const QuicInitialKeys& keys, std::span<const std::byte> sample,
                   std::array<std::byte, 16>& mask) noexcept;

  std::unique_ptr<Contexts> contexts_;
};

}  // namespace limpid
