// See janitor.h. The lifeline is a pipe that only the parent can write to: its end is the parent's end.
#include "doctor/janitor.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

namespace limpid::doctor {
namespace {

/// Who waits for our parent's output waits for everybody who could still write to it.
void leave_terminal() {
  (void)::setsid();  // ^C is not for us
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) (void)std::signal(signal, SIG_IGN);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) (void)::dup2(null, standard);
}

}  // namespace

Janitor::Janitor(pid_t child, UniqueFd lifeline) noexcept : child_(child), lifeline_(std::move(lifeline)) {}
Janitor::Janitor(Janitor&& other) noexcept
    : child_(std::exchange(other.child_, -1)), lifeline_(std::move(other.lifeline_)) {}
Janitor::~Janitor() {
  finish();
}

Result<Janitor> Janitor::start(const std::function<void()>& clean) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "open", "pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return system_error(errno, "fork", "");
  if (child == 0) {
    write_end.reset();
    leave_terminal();
    char byte = 0;
    while (::read(read_end.get(), &byte, 1) < 0 && errno == EINTR) {
    }
    clean();
    ::_exit(EXIT_SUCCESS);
  }
  return Janitor(child, std::move(write_end));
}

void Janitor::finish() noexcept {
  if (child_ < 0) return;
  lifeline_.reset();
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  child_ = -1;
}

}  // namespace limpid::doctor
