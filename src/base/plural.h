// A number with its noun, for messages that people read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace limpid {

/// "0 flows", "1 flow", "2 flows". `singular`: a noun, or words that end with one. `plural`: empty where an -s makes it.
[[nodiscard]] inline std::string counted(std::uint64_t number, std::string_view singular,
                                         std::string_view plural = {}) {
  std::string text = std::to_string(number) + ' ';
  if (number == 1) return text.append(singular);
  return plural.empty() ? text.append(singular).append("s") : text.append(plural);
}

}  // namespace limpid
