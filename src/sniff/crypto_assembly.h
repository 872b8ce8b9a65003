// What QUIC's CRYPTO frames carry, put together: pieces come in any order, twice, and overlapping (RFC 9000 section 19.6). For QuicSniffer.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>

namespace limpid {

class CryptoAssembly {
 public:
  /// Of a ClientHello: several times a post-quantum one with ECH. It bounds what a spoofed datagram makes us hold.
  static constexpr std::size_t kMostBytes = 8UL * 1024;

  enum class Added : std::uint8_t {
    stored,
    contradiction,  ///< other bytes where there were some: nobody can say which ones a server keeps
    too_long,
  };
  [[nodiscard]] Added add(std::uint64_t offset, std::span<const std::byte> piece) noexcept;

  /// What there is from the beginning on without a gap.
  [[nodiscard]] std::span<const std::byte> contiguous() const noexcept { return std::span(bytes_).first(contiguous_); }
  void clear() noexcept;

  // NOLINTNEXTLINE(modernize-use-equals-default, *-member-init): no byte is read before it is there
  CryptoAssembly() noexcept {}

 private:
  std::array<std::byte, kMostBytes> bytes_;
  std::bitset<kMostBytes> present_;
  std::size_t contiguous_ = 0;
};

}  // namespace limpid
