// Runs a program with posix_spawn and exchanges bytes with it through pipes, all three at once, so that neither side
// can block the other.
#include "base/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr std::array<std::string_view, 6> kSystemDirectories{"/usr/sbin", "/usr/bin",        "/sbin",
                                                             "/bin",      "/usr/local/sbin", "/usr/local/bin"};
constexpr std::size_t kOutputLimitBytes = std::size_t{16} << 20U;

struct PipePair {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<PipePair> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "make a pipe", "");
  return PipePair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

class SpawnActions {
 public:
  SpawnActions() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    // The child must not inherit a mask in which SIGTERM or SIGPIPE is blocked, or an ignored SIGPIPE.
    sigset_t none;
    sigset_t defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &defaults);
    // A process group of its own: ^C is for us, and must not kill nft in the middle of what we ask of it.
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  SpawnActions(SpawnActions&&) = delete;
  SpawnActions& operator=(SpawnActions&&) = delete;
  ~SpawnActions() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  void duplicate(int from, int to) { posix_spawn_file_actions_adddup2(&actions_, from, to); }
  [[nodiscard]] int spawn(pid_t& pid, const std::vector<char*>& argv, const std::vector<char*>& environment) const {
    return posix_spawn(&pid, argv.front(), &actions_, &attributes_, argv.data(), environment.data());
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

/// Appends what is there; closes `fd` at its end.
void drain(UniqueFd& fd, std::string& output) {
  std::array<char, 65536> chunk{};
  const ssize_t count = read(fd.get(), chunk.data(), chunk.size());
  if (count > 0) {
    const auto room = kOutputLimitBytes - std::min(kOutputLimitBytes, output.size());
    output.append(chunk.data(), std::min(room, static_cast<std::size_t>(count)));
  } else if (count == 0 || errno != EINTR) {
    fd.reset();
  }
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
                                  std::chrono::milliseconds timeout) {
  auto to_child = make_pipe();
  auto from_child = make_pipe();
  auto errors = make_pipe();
  if (!to_child) return std::unexpected(to_child.error());
  if (!from_child) return std::unexpected(from_child.error());
  if (!errors) return std::unexpected(errors.error());

  std::vector<std::string> words(argv.begin(), argv.end());
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (auto& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  // A fixed environment: neither the locale nor anything a user set may change what a program answers.
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string locale = "LC_ALL=C";
  std::vector<char*> environment{path.data(), locale.data()};
  // But for which file iptables-legacy locks: doctor's trials, as root of a user namespace only, cannot open the host's.
  const char* lock_file = std::getenv("XTABLES_LOCKFILE");
  std::string lock = fmt::format("XTABLES_LOCKFILE={}", lock_file == nullptr ? "" : lock_file);
  if (lock_file != nullptr) environment.push_back(lock.data());
  environment.push_back(nullptr);

  SpawnActions actions;
  actions.duplicate(to_child->read_end.get(), STDIN_FILENO);
  actions.duplicate(from_child->write_end.get(), STDOUT_FILENO);
  actions.duplicate(errors->write_end.get(), STDERR_FILENO);
  pid_t pid = -1;
  if (const int code = actions.spawn(pid, pointers, environment); code != 0) {
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
    std::array<pollfd, 3> wanted{pollfd{from_child->read_end.get(), POLLIN, 0},
                                 pollfd{errors->read_end.get(), POLLIN, 0},
                                 pollfd{to_child->write_end.get(), POLLOUT, 0}};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      kill(pid, SIGKILL);
      wait_for(pid);
      return failure("run", argv.front(), "it did not finish in time and was killed");
    }
    if (poll(wanted.data(), wanted.size(), static_cast<int>(left.count()) + 1) < 0 && errno != EINTR) break;
    if (wanted[0].revents != 0) drain(from_child->read_end, result.standard_output);
    if (wanted[1].revents != 0) drain(errors->read_end, result.standard_error);
    if (wanted[2].revents != 0) feed(to_child->write_end, input);
  }
  // A program can close its outputs and run on: the timeout holds for it too.
  const auto exit_status = wait_until(pid, deadline);
  if (!exit_status) {
    kill(pid, SIGKILL);
    wait_for(pid);
    return failure("run", argv.front(), "it did not finish in time and was killed");
  }
  result.exit_status = *exit_status;
  return result;
}

}  // namespace limpid
