// Asks on the controlling terminal, never on standard input, which may be a pipe.
#include "service/confirm.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace limpid {
namespace {

void say(int terminal, std::string_view text) {
  // A terminal that is gone shows by the answer that never comes.
  [[maybe_unused]] const auto ignored = write(terminal, text.data(), text.size());
}

}  // namespace

Result<UniqueFd> open_terminal() {
  UniqueFd terminal(open("/dev/tty", O_RDWR | O_CLOEXEC));
  if (terminal.valid()) return terminal;
  return usage_error("--confirm", "", "there is no terminal to confirm on",
                     "run it from an interactive shell, or leave --confirm out");
}

Confirmation await_confirmation(int terminal, int signal_fd, std::chrono::seconds patience) {
  // What was typed before the question is no answer to it.
  tcflush(terminal, TCIFLUSH);
  say(terminal, fmt::format("limpid: interception is active. Type \"yes\" within {} s to keep it: ", patience.count()));
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::string answer;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    std::array<pollfd, 2> wanted{pollfd{terminal, POLLIN, 0}, pollfd{signal_fd, POLLIN, 0}};
    if (poll(wanted.data(), wanted.size(), static_cast<int>(left.count())) < 0 && errno != EINTR) break;
    if (wanted[1].revents != 0) return Confirmation::interrupted;
    if (wanted[0].revents == 0) continue;
    std::array<char, 256> chunk{};
    const ssize_t count = read(terminal, chunk.data(), chunk.size());
    if (count <= 0) {
      if (count < 0 && errno == EINTR) continue;
      break;
    }
    answer.append(chunk.data(), static_cast<std::size_t>(count));
    const auto newline = answer.find('\n');
    if (newline == std::string::npos && answer.size() < 1024) continue;
    if (answer.substr(0, newline) == "yes") return Confirmation::confirmed;
    answer.clear();
    say(terminal, "limpid: type \"yes\" to keep it: ");
  }
  say(terminal, "\nlimpid: not confirmed\n");
  return Confirmation::timed_out;
}

}  // namespace limpid
