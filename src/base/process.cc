// Runs a program with posix_spawn and exchanges bytes with it through pipes, all three at once, so that neither side
// can block the other.
#include "base/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "base/spawn.h"
#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr std::array<std::string_view, 6> kSystemDirectories{"/usr/sbin", "/usr/bin",        "/sbin",
                                                             "/bin",      "/usr/local/sbin", "/usr/local/bin"};
/// A hundred thousand iptables rules with comments are some 30 MiB.
constexpr std::size_t kOutputLimitBytes = std::size_t{64} << 20U;
constexpr std::size_t kComplaintLimitBytes = std::size_t{16} << 20U;

struct PipePair {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<PipePair> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "make a pipe", "");
  return PipePair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

enum class Room : std::uint8_t { left, exceeded };

/// Appends what is there; closes `fd` at its end. What is more than `limit` is lost.
Room drain(UniqueFd& fd, std::string& output, std::size_t limit) {
  std::array<char, 65536> chunk{};
  const ssize_t count = read(fd.get(), chunk.data(), chunk.size());
  if (count > 0) {
    const auto room = limit - std::min(limit, output.size());
    output.append(chunk.data(), std::min(room, static_cast<std::size_t>(count)));
    if (static_cast<std::size_t>(count) > room) return Room::exceeded;
  } else if (count == 0 || errno != EINTR) {
    fd.reset();
  }
  return Room::left;
}

void feed(UniqueFd& fd, std::string_view& input) {
  const ssize_t count = write(fd.get(), input.data(), input.size());
  if (count > 0) input.remove_prefix(static_cast<std::size_t>(count));
  // A program that stops reading its input early is judged by its exit status.
  if (input.empty() || (count < 0 && errno != EINTR && errno != EAGAIN)) fd.reset();
}

int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::unexpected<Error> kill_and_fail(pid_t pid, std::string_view program, std::string_view why) {
  kill(pid, SIGKILL);
  wait_for(pid);
  return failure("run", program, std::string(why) + " and was killed");
}

/// The exit status, or nothing when the program still runs at `deadline`. Polled: pidfd_open(2) would need a descriptor,
/// and programs that outlive their outputs are rare.
std::optional<int> wait_until(pid_t pid, std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    siginfo_t info{};
    const bool known = waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
    if (known && info.si_pid == pid) return wait_for(pid);
    if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    poll(nullptr, 0, 1);
  }
}

/// Writing to a program that has gone raises SIGPIPE: held back for this thread, and taken off again, while we write.
class SigpipeGuard {
 public:
  SigpipeGuard() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  SigpipeGuard(const SigpipeGuard&) = delete;
  SigpipeGuard& operator=(const SigpipeGuard&) = delete;
  SigpipeGuard(SigpipeGuard&&) = delete;
  SigpipeGuard& operator=(SigpipeGuard&&) = delete;
  ~SigpipeGuard() {
    if (sigismember(&before_, SIGPIPE) == 0) {
      const timespec now{};
      while (sigtimedwait(&pipe_, nullptr, &now) == SIGPIPE) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_{};
  sigset_t before_{};
};

}  // namespace

Result<std::string> find_system_program(std::string_view name, std::string_view debian_package) {
  for (const auto directory : kSystemDirectories) {
    std::string path = std::string(directory) + '/' + std::string(name);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return unsupported("find program", name, "it is not installed", "apt install " + std::string(debian_package));
}

Result<ProcessOutput> run_process(std::span<const std::string> argv, std::string_view input,
                                  std::chrono::milliseconds timeout, std::span<const std::string> environment,
                                  int stop) {
  auto to_child = make_pipe();
  auto from_child = make_pipe();
  auto errors = make_pipe();
  if (!to_child) return std::unexpected(to_child.error());
  if (!from_child) return std::unexpected(from_child.error());
  if (!errors) return std::unexpected(errors.error());

  std::vector<std::string> words(argv.begin(), argv.end());
  // A fixed environment: neither the locale nor anything a user set may change what a program answers.
  std::vector<std::string> settings = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
  settings.insert(settings.end(), environment.begin(), environment.end());
  SpawnSettings spawning;
  spawning.leave_group();  // ^C must not kill nft in the middle of what we ask of it
  spawning.connect(to_child->read_end.get(), STDIN_FILENO);
  spawning.connect(from_child->write_end.get(), STDOUT_FILENO);
  spawning.connect(errors->write_end.get(), STDERR_FILENO);
  pid_t pid = -1;
  if (const int code = spawning.spawn(pid, words.front().c_str(), exec_vector(words), exec_vector(settings));
      code != 0) {
    return system_error(code, "run", argv.front());
  }
  to_child->read_end.reset();
  from_child->write_end.reset();
  errors->write_end.reset();

  const SigpipeGuard guard;
  fcntl(to_child->write_end.get(), F_SETFL, O_NONBLOCK);
  if (input.empty()) to_child->write_end.reset();
  ProcessOutput result;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (from_child->read_end.valid() || errors->read_end.valid()) {
    std::array<pollfd, 4> wanted{pollfd{from_child->read_end.get(), POLLIN, 0},
                                 pollfd{errors->read_end.get(), POLLIN, 0},
                                 pollfd{to_child->write_end.get(), POLLOUT, 0}, pollfd{stop, POLLIN, 0}};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return kill_and_fail(pid, argv.front(), "it did not finish in time");
    if (poll(wanted.data(), wanted.size(), static_cast<int>(left.count()) + 1) < 0 && errno != EINTR) break;
    if (wanted[3].revents != 0) return kill_and_fail(pid, argv.front(), "it was not wanted any more");
    // Half a listing would pass for a whole one, in which our own rules are missing.
    if (wanted[0].revents != 0 &&
        drain(from_child->read_end, result.standard_output, kOutputLimitBytes) == Room::exceeded)
      return kill_and_fail(pid, argv.front(), "it printed more than 64 MiB");
    if (wanted[1].revents != 0) (void)drain(errors->read_end, result.standard_error, kComplaintLimitBytes);
    if (wanted[2].revents != 0) feed(to_child->write_end, input);
  }
  // A program can close its outputs and run on: the timeout holds for it too.
  const auto exit_status = wait_until(pid, deadline);
  if (!exit_status) return kill_and_fail(pid, argv.front(), "it did not finish in time");
  result.exit_status = *exit_status;
  return result;
}

}  // namespace limpid
