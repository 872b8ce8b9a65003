// termios(3): the interrupt keys go on sending signals, which the program reads; flow control is off, or ^S would hold up the way out.
#include "top/terminal.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace limpid::top {
namespace {

/// Alternate screen, no cursor, no wrapping at the last column. And back, with plain text.
constexpr std::string_view kTake = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kGiveBack = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

std::string_view sequence(Style style, bool colour) {
  switch (style) {
    case Style::plain: return "";
    case Style::title: return "\x1b[1m";
    case Style::head: return colour ? "\x1b[7;36m" : "\x1b[1;7m";
    case Style::cursor: return "\x1b[7m";
    case Style::quiet: return "\x1b[2m";
    case Style::up: return colour ? "\x1b[32m" : "";
    case Style::down: return colour ? "\x1b[34m" : "";
    case Style::alert: return colour ? "\x1b[1;31m" : "\x1b[1;7m";
  }
  return "";
}

}  // namespace

std::string difference(std::span<const Line> before, std::span<const Line> now, bool colour) {
  std::string text;
  const bool all = before.size() != now.size();
  if (all) text += "\x1b[0m\x1b[2J";
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (!all && before[i] == now[i]) continue;
    if (all && now[i].text.empty()) continue;
    const std::string_view style = sequence(now[i].style, colour);
    // Cleared before, not behind: at the last column the cursor stands on the last character.
    text += fmt::format("\x1b[{};1H{}{}{}{}", i + 1, all ? "" : "\x1b[2K", style, now[i].text,
                        style.empty() ? "" : "\x1b[0m");
  }
  return text;
}

Result<Terminal> Terminal::open(int input, int output, bool colour) {
  termios modes{};
  if (::tcgetattr(input, &modes) != 0) return system_error(errno, "ask for the modes of", "terminal");
  Terminal terminal(input, output, colour, modes);
  if (auto taken = terminal.take(); !taken) return std::unexpected(taken.error());
  return terminal;
}

Terminal::Terminal(Terminal&& other) noexcept
    : input_(other.input_),
      output_(other.output_),
      colour_(other.colour_),
      taken_(std::exchange(other.taken_, false)),
      modes_(other.modes_),
      shown_(std::move(other.shown_)),
      columns_(other.columns_) {}

Status Terminal::take() {
  termios modes = modes_;
  modes.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  modes.c_iflag &= ~static_cast<tcflag_t>(IXON | ICRNL);
  modes.c_cc[VMIN] = 1;
  modes.c_cc[VTIME] = 0;
  // In the background this stops us (SIGTTOU) until we are in front again.
  while (::tcsetattr(input_, TCSANOW, &modes) != 0) {
    if (errno != EINTR) return system_error(errno, "set the modes of", "terminal");
  }
  taken_ = true;
  forget();
  return write(kTake);
}

void Terminal::give_back() noexcept {
  if (!std::exchange(taken_, false)) return;
  [[maybe_unused]] const auto written = write(kGiveBack);  // one that is gone needs nothing back
  while (::tcsetattr(input_, TCSANOW, &modes_) != 0 && errno == EINTR) {
  }
}

Status Terminal::show(std::vector<Line> lines, std::size_t columns) {
  pollfd ready{.fd = output_, .events = POLLOUT, .revents = 0};
  if (::poll(&ready, 1, 0) == 0) return {};
  if (columns != std::exchange(columns_, columns)) shown_.clear();
  const std::string text = difference(shown_, lines, colour_);
  shown_ = std::move(lines);
  return write(text);
}

Canvas size_of_terminal(int output) noexcept {
  Canvas canvas;
  winsize size{};
  if (::ioctl(output, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    canvas.columns = size.ws_col;
    canvas.lines = size.ws_row;
  }
  return canvas;
}

Status Terminal::write(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t count = ::write(output_, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {  // somebody else has made it non-blocking
      pollfd ready{.fd = output_, .events = POLLOUT, .revents = 0};
      (void)::poll(&ready, 1, -1);
      continue;
    }
    if (count < 0) return system_error(errno, "write to", "terminal");
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace limpid::top
