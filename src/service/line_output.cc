// poll(2) before each write(2), because the descriptor is shared with others and stays a blocking one. See line_output.h.
#include "service/line_output.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

namespace limpid {

LineOutput::Loss LineOutput::write(std::string_view lines, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::string_view rest = rest_;
  int error = write_some(rest, deadline);
  rest_.erase(0, rest_.size() - rest.size());
  std::string_view left = lines;
  if (error == 0) error = write_some(left, deadline);
  if (error == 0) return {};
  const bool cut = left.size() < lines.size() && lines[lines.size() - left.size() - 1] != '\n';
  if (cut) {
    rest_ = left.substr(0, left.find('\n') + 1);
    left.remove_prefix(rest_.size());
  }
  return {.lines = static_cast<std::uint64_t>(std::ranges::count(left, '\n')), .error = error};
}

int LineOutput::write_some(std::string_view& bytes, std::chrono::steady_clock::time_point deadline) const {
  while (!bytes.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd output{.fd = fd_, .events = POLLOUT, .revents = 0};
    const int ready = poll(&output, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return errno;
    if (ready == 0) return ETIMEDOUT;
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN && left <= 0) {
      return ETIMEDOUT;  // somebody else was faster
    } else if (errno != EAGAIN && errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace limpid
