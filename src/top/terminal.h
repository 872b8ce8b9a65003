// A terminal that is borrowed for a whole screen and given back as it was, whatever ends the program. Only changed lines are sent.
// Plain control sequences (ECMA-48, and xterm's alternate screen) instead of ncurses: the screen is lines, each of one style, and a dozen
// sequences that every terminal of today knows are less than a library with signal handlers and globals of its own in a proxy.
#pragma once

#include <termios.h>

#include <span>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "top/drawing.h"

namespace limpid::top {

/// What a terminal that shows `before` needs to be told to show `now`; a `before` of another size is cleared first.
[[nodiscard]] std::string difference(std::span<const Line> before, std::span<const Line> now, bool colour);

/// 80 × 24 where it does not say, or is none.
[[nodiscard]] Canvas size_of_terminal(int output) noexcept;

class Terminal {
 public:
  /// Of two descriptors that are terminals; both are borrowed.
  [[nodiscard]] static Result<Terminal> open(int input, int output, bool colour);
  Terminal(Terminal&& other) noexcept;
  Terminal& operator=(Terminal&& other) = delete;
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() { give_back(); }

  /// Alternate screen, no cursor, no line editing. Also after give_back(), and after being stopped.
  Status take();
  void give_back() noexcept;
  /// The next show() sends everything.
  void forget() { shown_.clear(); }
  /// Sends nothing to a terminal that takes nothing now (a slow line, ^S): the next call sends all that has changed since.
  Status show(std::vector<Line> lines, std::size_t columns);
  [[nodiscard]] Canvas size() const noexcept { return size_of_terminal(output_); }

 private:
  Terminal(int input, int output, bool colour, const termios& modes) noexcept
      : input_(input), output_(output), colour_(colour), modes_(modes) {}
  [[nodiscard]] Status write(std::string_view text) const;

  int input_;
  int output_;
  bool colour_;
  bool taken_ = false;
  termios modes_;  ///< as they were
  std::vector<Line> shown_;
  std::size_t columns_ = 0;  ///< of what is shown
};

}  // namespace limpid::top
