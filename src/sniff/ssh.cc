// An SSH client's identification (RFC 4253 section 4.2), the first thing that it sends: "SSH-2.0-…", or "SSH-1.x-…" of old.
#include <algorithm>

#include "sniff/byte_reader.h"
#include "sniff/parsers.h"

namespace limpid {

SniffOutcome sniff_ssh(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept {
  constexpr std::string_view shape = "SSH-1.99-";
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto text = as_text(bytes);
  // Major and minor version: a digit, a dot, one or two digits, a hyphen.
  for (std::size_t i = 0; i < std::min(text.size(), shape.size()); ++i) {
    if (i == 7 && text[i] == '-') return SniffOutcome::found;  // a minor version of one digit
    if (is_digit(shape[i]) ? !is_digit(text[i]) : text[i] != shape[i]) return doubt(sniffed, Doubt::unrecognised);
  }
  if (text.size() >= shape.size()) return SniffOutcome::found;
  return need_bytes(sniffed, std::max<std::size_t>(text.size() + 1, shape.size() - 1));
}

}  // namespace limpid
