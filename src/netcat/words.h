// Splits a command line into words without any shell. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"

namespace limpid {

/// Blanks separate words. '…' keeps everything, "…" everything but a backslash before " or \, and a backslash elsewhere
/// keeps the next character. Nothing else has a meaning: no variables, patterns, pipes or redirections. An open quote,
/// a backslash at the end, or no word at all is a usage error.
[[nodiscard]] Result<std::vector<std::string>> split_words(std::string_view text);

}  // namespace limpid
