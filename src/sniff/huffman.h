// HPACK's Huffman code (RFC 7541 appendix B), one way: from coded bytes to text. For hpack.cc.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace limpid {

/// The length of the whole text, of which as much is written as there is room for. None if this is no coded text: it holds the symbol
/// EOS, or does not end in fewer than eight ones (RFC 7541 section 5.2).
[[nodiscard]] std::optional<std::size_t> huffman_decode(std::span<const std::byte> coded,
                                                        std::span<char> text) noexcept;

}  // namespace limpid
