// Text of others (names, comments, complaints of programs) on its way to a terminal, where nothing in it may act.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace limpid {

/// The length of the well-formed UTF-8 sequence at the start of `text`, which is not empty; 0 if there is none (RFC 3629, table 3-7 of
/// Unicode).
[[nodiscard]] std::size_t utf8_length(std::string_view text) noexcept;

/// The text with a question mark for every control character, C0 and C1 (xterm takes U+009B for ESC [), every character that is invisible
/// or turns the direction of writing, and every byte that is not UTF-8.
[[nodiscard]] std::string for_terminal(std::string_view text);

}  // namespace limpid
