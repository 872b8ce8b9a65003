// The live view as lines of text for a screen of any size. Pure: the view and a size in, lines out; nothing here knows how a terminal is
// told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "top/view.h"

namespace limpid::top {

enum class Style : std::uint8_t { plain, title, head, cursor, quiet, up, down, alert };

struct Line {
  std::string text;  ///< not wider than the screen
  Style style = Style::plain;
  friend bool operator==(const Line&, const Line&) = default;
};

struct Canvas {
  std::size_t columns = 80;
  std::size_t lines = 24;
  bool unicode = false;
};

/// For View::set_page().
[[nodiscard]] std::size_t rows_that_fit(const Canvas& canvas);
/// Exactly as many lines as the canvas has.
[[nodiscard]] std::vector<Line> draw(const View& view, const Canvas& canvas);
/// The screen without its last line, which is about keys, and without blank lines at its end.
[[nodiscard]] std::string draw_once(const View& view, const Canvas& canvas);

}  // namespace limpid::top
