// Reads a number and its unit; refuses everything else, signs and fractions too.
#include "cli/duration.h"

#include <charconv>
#include <cstdint>

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365);

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view flag, std::string_view text) {
  std::uint64_t amount = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), amount);
  const std::string_view unit(end, text.data() + text.size());
  std::uint64_t factor = 0;
  if (unit == "ms") factor = 1;
  if (unit.empty() || unit == "s") factor = 1000;
  if (unit == "m") factor = 60'000;
  if (unit == "h") factor = 3'600'000;
  const auto longest = static_cast<std::uint64_t>(kLongest.count());
  if (error != std::errc{} || factor == 0 || amount > longest / factor) {
    return usage_error(flag, text, "not a duration", "write it like 500ms, 30s, 5m or 2h; at most a year");
  }
  return std::chrono::milliseconds(amount * factor);
}

}  // namespace limpid
