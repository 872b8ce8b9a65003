// Reads numbers and vectors out of bytes that a stranger sent, in network byte order. For the parsers of this room.
// A read beyond the end yields zeroes and marks the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/big_endian.h"
#include "base/byte_cursor.h"

namespace limpid {

class ByteReader : public ByteCursor {
 public:
  using ByteCursor::ByteCursor;

  /// A number of `count` ≤ 4 bytes.
  std::uint32_t number(std::size_t count) noexcept { return static_cast<std::uint32_t>(big_endian(take(count))); }

  /// What a length of `length_bytes` stands before (RFC 8446 section 3.4).
  std::span<const std::byte> vector(std::size_t length_bytes) noexcept { return take(number(length_bytes)); }

  /// QUIC's numbers of one, two, four or eight bytes (RFC 9000 section 16).
  std::uint64_t variable_number() noexcept {
    const std::uint32_t first = number(1);
    std::uint64_t value = first & 0x3fU;
    for (const std::byte byte : take((std::size_t{1} << (first >> 6U)) - 1)) {
      value = (value << 8U) | std::to_integer<std::uint64_t>(byte);
    }
    return value;
  }
};

}  // namespace limpid
