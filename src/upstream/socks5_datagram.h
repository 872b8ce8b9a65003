// The header that SOCKS5 puts before each datagram (RFC 1928, section 7): written before one goes up, read off one that comes back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "limpid/address.h"

namespace limpid {

/// What stands before the payload. At most 22 bytes, because it never has a name.
class Socks5DatagramHeader {
 public:
  explicit Socks5DatagramHeader(const SocketAddress& destination) noexcept;
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return std::span(bytes_).first(length_); }

 private:
  std::array<std::byte, 22> bytes_{};
  std::size_t length_ = 0;
};

struct Socks5Datagram {
  SocketAddress from;
  std::span<const std::byte> payload;
};

/// Empty for a fragment (which no implementation has to reassemble), a name as sender, and whatever is no such datagram.
[[nodiscard]] std::optional<Socks5Datagram> read_socks5_datagram(std::span<const std::byte> bytes) noexcept;

}  // namespace limpid
