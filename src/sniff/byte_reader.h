// Reads numbers and vectors out of bytes that a stranger sent, in network byte order. For the parsers of this room.
// A read beyond the end yields zeroes and marks the reader; whoever reads asks ok() once, at the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/big_endian.h"

namespace limpid {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }
  [[nodiscard]] std::size_t left() const noexcept { return rest_.size(); }
  [[nodiscard]] std::span<const std::byte> rest() const noexcept { return rest_; }

  /// The next `count` bytes; none, and the reader is marked, if there are fewer.
  std::span<const std::byte> take(std::size_t count) noexcept {
    if (count > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

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

 private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace limpid
