// Countries are their two letters (ISO 3166-1), autonomous systems their numbers, with or without AS before them.
#include "policy/place_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

namespace limpid {
namespace {

std::optional<std::string> country_of(std::string_view text) {
  if (text.size() != 2) return std::nullopt;
  std::string code;
  for (const char letter : text) {
    const bool lower = letter >= 'a' && letter <= 'z';
    if (!lower && (letter < 'A' || letter > 'Z')) return std::nullopt;
    code += lower ? static_cast<char>(letter - 'a' + 'A') : letter;
  }
  return code;
}

std::optional<std::string> system_of(std::string_view text) {
  if (text.starts_with("AS") || text.starts_with("as")) text.remove_prefix(2);
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number == 0) return std::nullopt;
  return std::to_string(number);
}

}  // namespace

bool is_place_test(std::string_view name) noexcept {
  return name == "geoip" || name == "asn";
}

Result<Test> read_place_test(std::string_view name, const std::vector<RuleArgument>& given, const Places& places,
                             const RuleLexer& lexer) {
  const bool countries = name == "geoip";
  const bool of_source = given.front().key == "src";
  std::vector<WideRange> ranges;
  for (const RuleArgument& argument : given) {
    if ((argument.key == "src") != of_source)
      return lexer.wrong(argument.column, "source and destination in one condition",
                         fmt::format("write src: before each, or {0}(…) || {0}(src: …)", name));
    const auto place = countries ? country_of(argument.value) : system_of(argument.value);
    if (!place)
      return lexer.wrong(argument.column,
                         fmt::format("'{}' is no {}", argument.value, countries ? "country" : "autonomous system"),
                         countries ? "two letters: geoip(de, fr)" : "a number: asn(64496), asn(AS64496)");
    if (!places)
      return lexer.wrong(argument.column, "there is no database to look it up in",
                         countries ? "set geoip-database = \"FILE.mmdb\"" : "set asn-database = \"FILE.mmdb\"");
    const auto networks = places(countries ? PlaceKind::country : PlaceKind::autonomous_system, *place);
    if (!networks) {
      Error cause = networks.error();
      const std::string remedy = std::exchange(cause.remedy, {});
      auto error = lexer.wrong(argument.column, cause.message(), remedy);
      error.error().code = cause.code == kUnusableSet ? kUnusableSet : 0;
      return error;
    }
    ranges.insert(ranges.end(), (*networks)->ranges().begin(), (*networks)->ranges().end());
  }
  auto networks = std::make_shared<const RangeSet>(std::move(ranges));
  if (of_source) return SourceIn{std::move(networks)};
  return DestinationIn{std::move(networks)};
}

}  // namespace limpid
