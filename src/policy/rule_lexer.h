// Words and signs of a rule's text, with their columns. Used by the parser alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

struct RuleToken {
  enum class Kind : std::uint8_t { word, quoted, open, close, comma, negation, both, either, arrow, end };
  Kind kind = Kind::end;
  std::string text;        ///< word, quoted: what it says
  std::size_t column = 1;  ///< of its first byte, from 1
};

class RuleLexer {
 public:
  explicit RuleLexer(std::string_view text) noexcept : text_(text) {}
  /// The next one; `end` for ever once there is none.
  [[nodiscard]] Result<RuleToken> next();
  /// A usage error about this text.
  [[nodiscard]] std::unexpected<Error> wrong(std::size_t column, std::string_view cause,
                                             std::string_view remedy = {}) const;

 private:
  [[nodiscard]] Result<RuleToken> quoted();
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace limpid
