// The code of RFC 7541 appendix B is canonical: within a length, codes ascend with their symbols, and longer codes are greater than
// shorter ones. So the lengths say everything; a symbol is found by comparing 30 bits with the end of each length's range.
#include "sniff/huffman.h"

#include <array>
#include <cstdint>

namespace limpid {
namespace {

constexpr std::size_t kSymbols = 257;
constexpr std::size_t kEndOfString = 256;
constexpr std::size_t kMostCodeBits = 30;
constexpr std::uint32_t kOnes = (1U << kMostCodeBits) - 1;

/// The number of bits of each symbol's code.
constexpr std::array<std::uint8_t, kSymbols> kCodeBits = {
    // clang-format off
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
    // clang-format on
};

struct CodeTable {
  /// For each length: one more than the last code, filled up to 30 bits with zeroes; 0 where there is no code of that length.
  std::array<std::uint32_t, kMostCodeBits + 1> end{};
  /// For each length: what is added to a code to get its place in `symbols`; modulo 2^32.
  std::array<std::uint32_t, kMostCodeBits + 1> offset{};
  std::array<std::uint16_t, kSymbols> symbols{};
};

constexpr CodeTable kTable = [] {
  CodeTable table;
  std::uint32_t code = 0;
  std::uint32_t place = 0;
  for (std::size_t bits = 1; bits <= kMostCodeBits; ++bits) {
    code <<= 1U;
    table.offset.at(bits) = place - code;
    const std::uint32_t before = place;
    for (std::size_t symbol = 0; symbol < kSymbols; ++symbol) {
      if (kCodeBits.at(symbol) == bits) table.symbols.at(place++) = static_cast<std::uint16_t>(symbol);
    }
    code += place - before;
    if (place != before) table.end.at(bits) = code << (kMostCodeBits - bits);
  }
  return table;
}();
static_assert(kTable.end[kMostCodeBits] == kOnes + 1, "the code is complete, so every 30 bits begin with a symbol");

}  // namespace

std::optional<std::size_t> huffman_decode(std::span<const std::byte> coded, std::span<char> text) noexcept {
  std::size_t length = 0;
  std::uint64_t pending = 0;  // its lower `bits` bits are not decoded yet
  std::size_t bits = 0;
  std::size_t at = 0;
  while (true) {
    for (; bits < kMostCodeBits && at < coded.size(); ++at, bits += 8) {
      pending = pending << 8U | std::to_integer<std::uint64_t>(coded[at]);
    }
    // Behind the end there are ones, as if EOS were cut off.
    const std::uint64_t window = bits >= kMostCodeBits ? pending >> (bits - kMostCodeBits)
                                                       : (pending << (kMostCodeBits - bits)) | (kOnes >> bits);
    std::size_t code_bits = 5;
    while (window >= kTable.end.at(code_bits)) ++code_bits;
    if (code_bits > bits) {
      if (bits < 8 && window == kOnes) return length;
      return std::nullopt;
    }
    const auto code = static_cast<std::uint32_t>(window >> (kMostCodeBits - code_bits));
    const std::size_t symbol = kTable.symbols.at(code + kTable.offset.at(code_bits));
    if (symbol == kEndOfString) return std::nullopt;
    if (length < text.size()) text[length] = static_cast<char>(symbol);
    ++length;
    bits -= code_bits;
    pending &= (std::uint64_t{1} << bits) - 1;
  }
}

}  // namespace limpid
