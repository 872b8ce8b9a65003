// Port lists as users write them, kept as sorted, merged ranges.
#include "limpid/port_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace limpid {
namespace {

Result<Port> parse_port(std::string_view text, std::string_view whole) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0 || value > 65535) {
    return usage_error("parse ports", whole, fmt::format("'{}' is not a port", text),
                       "ports are 1 to 65535, written like 80,443,8000-8100");
  }
  return Port{static_cast<std::uint16_t>(value)};
}

Result<PortRange> parse_range(std::string_view text, std::string_view whole) {
  const auto dash = text.find('-');
  const auto first = parse_port(text.substr(0, dash), whole);
  if (!first) return std::unexpected(first.error());
  if (dash == std::string_view::npos) return PortRange{*first, *first};
  const auto last = parse_port(text.substr(dash + 1), whole);
  if (!last) return std::unexpected(last.error());
  if (*last < *first) {
    return usage_error("parse ports", whole, fmt::format("the range '{}' runs backwards", text),
                       fmt::format("write {}-{}", last->value, first->value));
  }
  return PortRange{*first, *last};
}

}  // namespace

Result<PortSet> PortSet::parse(std::string_view text) {
  PortSet set;
  if (text == "all") {
    set.insert({Port{1}, Port{65535}});
    return set;
  }
  std::string_view rest = text;
  for (;;) {
    const auto comma = rest.find(',');
    const auto range = parse_range(rest.substr(0, comma), text);
    if (!range) return std::unexpected(range.error());
    set.insert(*range);
    if (comma == std::string_view::npos) return set;
    rest.remove_prefix(comma + 1);
  }
}

void PortSet::insert(PortRange range) {
  ranges_.push_back(range);
  std::ranges::sort(ranges_);
  std::vector<PortRange> merged;
  for (const auto& next : ranges_) {
    // Ranges that touch become one: 80-81 and 82 are 80-82.
    if (!merged.empty() && next.first.value <= static_cast<unsigned>(merged.back().last.value) + 1U) {
      merged.back().last = std::max(merged.back().last, next.last);
    } else {
      merged.push_back(next);
    }
  }
  ranges_ = std::move(merged);
}

bool PortSet::contains(Port port) const noexcept {
  return std::ranges::any_of(ranges_,
                             [port](const PortRange& range) { return range.first <= port && port <= range.last; });
}

std::string PortSet::to_string() const {
  std::string text;
  for (const auto& range : ranges_) {
    if (!text.empty()) text += ',';
    text += fmt::to_string(range.first.value);
    if (range.first != range.last) text += fmt::format("-{}", range.last.value);
  }
  return text;
}

}  // namespace limpid
