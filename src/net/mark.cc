// Packet marks as `ip rule` writes them.
#include "limpid/mark.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

namespace limpid {
namespace {

std::optional<std::uint32_t> parse_number(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    text.remove_prefix(2);
    base = 16;
  }
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<Mark> Mark::parse(std::string_view text) {
  const auto slash = text.find('/');
  const auto value = parse_number(text.substr(0, slash));
  const auto mask = slash == std::string_view::npos ? std::optional<std::uint32_t>{0xffffffffU}
                                                    : parse_number(text.substr(slash + 1));
  if (!value || !mask) {
    return usage_error("parse mark", text, "not a mark", "write VALUE/MASK, like 0x1000000/0x3000000");
  }
  if ((*value & ~*mask) != 0) {
    return usage_error("parse mark", text, "the value has bits outside its mask",
                       fmt::format("did you mean {:#x}/{:#x}?", *value, *value | *mask));
  }
  return Mark{*value, *mask};
}

std::string Mark::to_string() const {
  return fmt::format("{:#x}/{:#x}", value, mask);
}

}  // namespace limpid
