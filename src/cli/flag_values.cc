// Reads what several flags have in common.
#include "cli/flag_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace limpid {
namespace {

constexpr std::string_view kBlanks = " \t";

std::string shown(std::string_view typed) {
  std::string text;
  for (const char c : typed.substr(0, 80)) text += c >= ' ' && c <= '~' ? c : '?';
  return text;
}

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const auto last = text.find_last_not_of(kBlanks);
  return last == std::string_view::npos ? std::string_view{} : text.substr(0, last + 1);
}

}  // namespace

std::unexpected<Error> wrong(std::string_view flag, std::string_view typed, std::string_view cause,
                             std::string_view remedy) {
  return usage_error(flag, typed.empty() ? "\"\"" : shown(typed), cause, remedy);
}

std::unexpected<Error> wrong(std::string_view flag, std::string_view typed, const Error& error) {
  return wrong(flag, typed, error.cause, error.remedy);
}

Result<std::vector<std::string>> items_of(std::string_view flag, const std::vector<std::string>& values) {
  std::vector<std::string> items;
  for (const std::string& value : values) {
    std::string_view rest = value;
    while (true) {
      const auto comma = rest.find(',');
      const std::string_view item = trimmed(rest.substr(0, comma));
      if (item.empty()) return wrong(flag, value, "an item is empty", "leave out the flag, or the superfluous comma");
      items.emplace_back(item);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return items;
}

Result<std::uint32_t> parse_number(std::string_view flag, std::string_view typed, std::uint32_t least,
                                   std::uint32_t most, std::string_view meaning) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(typed.data(), typed.data() + typed.size(), number);
  if (error != std::errc{} || end != typed.data() + typed.size() || number < least || number > most) {
    return wrong(flag, typed, fmt::format("not {}", meaning), fmt::format("give a number from {} to {}", least, most));
  }
  return number;
}

}  // namespace limpid
