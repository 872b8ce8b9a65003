// See forked.h. The outcome crosses a pipe as one byte (0: a value, otherwise 1 + the kind of the error) and the text.
#include "base/forked.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t length = ::read(descriptor, buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(length));
  }
}

}  // namespace

Result<std::string> run_forked(const std::function<Result<std::string>()>& function) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "open", "pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return system_error(errno, "fork", "");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(EXIT_FAILURE);
    const auto outcome = function();
    const char first = outcome ? '\0' : static_cast<char>(1 + static_cast<int>(outcome.error().kind));
    write_all(write_end.get(), std::string_view(&first, 1));
    write_all(write_end.get(), outcome ? *outcome : outcome.error().message());
    ::_exit(EXIT_SUCCESS);  // none of the parent's destructors may run here
  }
  write_end.reset();
  std::string text = read_all(read_end.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  // Killed in the middle, it may have written a part: that is no answer.
  const bool whole = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
  if (!whole || text.empty()) return failure("run", "a process of its own", "it died");
  const auto first = static_cast<unsigned char>(text.front());
  text.erase(0, 1);
  if (first == 0) return text;
  Error error;
  error.kind = static_cast<ErrorKind>(first - 1);
  error.cause = std::move(text);
  return std::unexpected(std::move(error));
}

}  // namespace limpid
