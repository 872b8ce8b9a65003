// Numbers as protocols write them: the highest byte first. The one reader of such numbers that all parsers share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace limpid {

/// The number that these bytes are, 8 at most; 0 for none.
[[nodiscard]] constexpr std::uint64_t big_endian(std::span<const std::byte> bytes) noexcept {
  std::uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8U | std::to_integer<std::uint64_t>(byte);
  return value;
}

/// That of the two bytes at `at`, which must be there.
[[nodiscard]] constexpr std::uint16_t big_endian16(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(big_endian(bytes.subspan(at, 2)));
}

}  // namespace limpid
