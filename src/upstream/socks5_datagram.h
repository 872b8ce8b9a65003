// The header that SOCKS5 puts before each datagram (RFC 1928, section 7): written before one goes up, read off one that comes back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "limpid/address.h"

namespace limpid {

/// What stands before the payload.
class Socks5DatagramHeader {
 public:
  /// `name`: 1 to 255 bytes that the upstream is to look up, in place of the address; empty: the address.
  explicit Socks5DatagramHeader(const SocketAddress& destination, std::string_view name = {}) noexcept;
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return std::span(bytes_).first(length_); }

 private:
  static constexpr std::size_t kMostBytes = 4 + 1 + 255 + 2;
  void append(std::byte byte) noexcept { bytes_.at(length_++) = byte; }
  std::array<std::byte, kMostBytes> bytes_{};
  std::size_t length_ = 0;
};

struct Socks5Datagram {
  SocketAddress from;
  std::span<const std::byte> payload;
};

/// Empty for a fragment (which no implementation has to reassemble), a name as sender, and whatever is no such datagram.
[[nodiscard]] std::optional<Socks5Datagram> read_socks5_datagram(std::span<const std::byte> bytes) noexcept;

}  // namespace limpid
