// Figures in few cells: amounts, times, and a history as a line of blocks. Pure; used by the drawing of the live view.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace limpid::top {

/// "980", "1.5K", "12M": powers of 1024, five cells at most.
[[nodiscard]] std::string short_amount(double amount);
/// "0", "0.3", "12", "1.5K": a rate of events.
[[nodiscard]] std::string short_rate(double rate);
/// "0s", "59s", "3m05s", "2h10m", "4d03h": six cells at most, below 274 years.
[[nodiscard]] std::string short_time(std::uint64_t milliseconds);

/// The last `cells` values, each a block as high as its part of `highest`; blanks before the first.
[[nodiscard]] std::string blocks(std::span<const double> values, double highest, std::size_t cells, bool unicode);

/// As many cells as `cells` says: what is longer loses its middle, so that both a network and a port can be seen. `text` is ASCII.
[[nodiscard]] std::string fitted(std::string_view text, std::size_t cells, bool right = false);

}  // namespace limpid::top
