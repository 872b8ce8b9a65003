// Rounding decides about the unit: 1023.7 is 1.0K, never 1024.
#include "top/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace limpid::top {
namespace {

std::string scaled(double amount, double step, bool fraction) {
  constexpr std::string_view kUnits = "KMGTPE";
  std::size_t unit = 0;
  while (amount >= step - 0.5 && unit < kUnits.size()) {
    amount /= step;
    ++unit;
  }
  const bool tenth = amount < 9.95 && (unit > 0 || (fraction && amount > 0));
  std::string text = tenth ? fmt::format("{:.1f}", amount) : fmt::format("{:.0f}", amount);
  if (unit > 0) text += kUnits[unit - 1];
  return text;
}

}  // namespace

std::string short_amount(double amount) {
  constexpr double kStep = 1024;
  return scaled(amount, kStep, /*fraction=*/false);
}

std::string short_rate(double rate) {
  constexpr double kStep = 1000;
  return scaled(rate, kStep, /*fraction=*/true);
}

std::string short_time(std::uint64_t milliseconds) {
  const std::uint64_t seconds = milliseconds / 1000;
  const std::uint64_t minutes = seconds / 60;
  const std::uint64_t hours = minutes / 60;
  if (minutes == 0) return fmt::format("{}s", seconds);
  if (hours == 0) return fmt::format("{}m{:02}s", minutes, seconds % 60);
  if (hours < 24) return fmt::format("{}h{:02}m", hours, minutes % 60);
  const std::uint64_t days = hours / 24;
  return days < 100 ? fmt::format("{}d{:02}h", days, hours % 24) : fmt::format("{}d", days);
}

std::string blocks(std::span<const double> values, double highest, std::size_t cells, bool unicode) {
  constexpr std::array<std::string_view, 9> kBlocks{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  constexpr std::array<std::string_view, 9> kAscii{" ", "_", ".", ":", "-", "=", "+", "*", "#"};
  const auto& steps = unicode ? kBlocks : kAscii;
  if (values.size() > cells) values = values.last(cells);
  std::string line(cells - values.size(), ' ');
  for (const double value : values) {
    // Whatever is more than nothing shows.
    const double part = highest > 0 ? std::clamp(value / highest, 0.0, 1.0) : 0;
    line += steps[static_cast<std::size_t>(std::ceil(part * static_cast<double>(steps.size() - 1)))];
  }
  return line;
}

std::string fitted(std::string_view text, std::size_t cells, bool right) {
  if (text.size() <= cells) {
    const std::string blanks(cells - text.size(), ' ');
    return right ? blanks + std::string(text) : std::string(text) + blanks;
  }
  if (cells == 0) return {};
  if (cells < 4) return std::string(text.substr(0, cells));
  const std::size_t tail = (cells - 1) / 2;
  return fmt::format("{}~{}", text.substr(0, cells - 1 - tail), text.substr(text.size() - tail));
}

}  // namespace limpid::top
