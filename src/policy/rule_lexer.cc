// Bytes that are neither sign, space nor printable ASCII are refused where they stand.
#include "policy/rule_lexer.h"

#include <fmt/format.h>

namespace limpid {
namespace {

bool is_space(char c) noexcept {
  return c == ' ' || c == '\t';
}

/// What a name, address, port or time is written with.
bool is_word_byte(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_.:/*+-@[]%").contains(c);
}

}  // namespace

std::unexpected<Error> RuleLexer::wrong(std::size_t column, std::string_view cause, std::string_view remedy) const {
  return usage_error("rule", fmt::format("\"{}\"", text_), fmt::format("column {}: {}", column, cause), remedy);
}

Result<RuleToken> RuleLexer::quoted() {
  RuleToken token{.kind = RuleToken::Kind::quoted, .text = {}, .column = at_ + 1};
  for (++at_; at_ < text_.size(); ++at_) {
    if (text_[at_] == '"') {
      ++at_;
      return token;
    }
    // Only these two, so that a pattern's own backslashes need no second one.
    if (text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] == '"') ++at_;
    token.text += text_[at_];
  }
  return wrong(token.column, "the quotation has no end", "add a \"");
}

Result<RuleToken> RuleLexer::next() {
  using Kind = RuleToken::Kind;
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  const std::string_view rest = text_.substr(at_);
  RuleToken token{.kind = Kind::end, .text = {}, .column = at_ + 1};
  if (rest.empty()) return token;
  const auto sign = [&](Kind kind, std::size_t length) {
    token.kind = kind;
    at_ += length;
    return token;
  };
  if (rest.starts_with("->")) return sign(Kind::arrow, 2);
  if (rest.starts_with("&&")) return sign(Kind::both, 2);
  if (rest.starts_with("||")) return sign(Kind::either, 2);
  switch (rest.front()) {
    case '(': return sign(Kind::open, 1);
    case ')': return sign(Kind::close, 1);
    case ',': return sign(Kind::comma, 1);
    case '!': return sign(Kind::negation, 1);
    case '"': return quoted();
    case '&': return wrong(token.column, "'&' alone", "write &&");
    case '|': return wrong(token.column, "'|' alone", "write ||");
    default: break;
  }
  std::size_t length = 0;
  while (length < rest.size() && is_word_byte(rest[length]) && !rest.substr(length).starts_with("->")) ++length;
  if (length == 0) {
    const auto byte = static_cast<unsigned char>(rest.front());
    return wrong(token.column,
                 byte > 0x20 && byte < 0x7f ? fmt::format("'{}' has no meaning here", rest.front())
                                            : fmt::format("byte {:#04x} has no meaning here", byte),
                 "what is no plain word stands in \"quotes\"");
  }
  token.text = rest.substr(0, length);
  return sign(Kind::word, length);
}

}  // namespace limpid
