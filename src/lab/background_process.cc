// Child processes by posix_spawn(3), waited for with a pidfd, so that every wait has an end.
#include "lab/background_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <sstream>
#include <utility>

#include "base/file_text.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kLookAgain{5};

class FileActions {
 public:
  FileActions() noexcept { posix_spawn_file_actions_init(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  FileActions(FileActions&&) = delete;
  FileActions& operator=(FileActions&&) = delete;
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }

  void open(int descriptor, const std::string& path, int flags) {
    posix_spawn_file_actions_addopen(&actions_, descriptor, path.c_str(), flags, 0644);
  }
  [[nodiscard]] const posix_spawn_file_actions_t* get() const noexcept { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

}  // namespace

BackgroundProcess::BackgroundProcess(pid_t pid, UniqueFd descriptor) noexcept
    : pid_(pid), descriptor_(std::move(descriptor)) {}

Result<BackgroundProcess> BackgroundProcess::start(const std::vector<std::string>& argv, const Output& output) {
  std::vector<char*> words;
  words.reserve(argv.size() + 1);
  for (const auto& word : argv) {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): execve(2) leaves them as they are
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);

  FileActions actions;
  actions.open(STDIN_FILENO, "/dev/null", O_RDONLY);
  actions.open(STDOUT_FILENO, output.standard_output, O_WRONLY | O_CREAT | O_APPEND);
  actions.open(STDERR_FILENO, output.standard_error, O_WRONLY | O_CREAT | O_APPEND);
  pid_t pid = -1;
  const int code = ::posix_spawn(&pid, words.front(), actions.get(), nullptr, words.data(), environ);
  if (code != 0) return system_error(code, "run", argv.front());
  // By number: the wrapper of glibc 2.36 is not declared extern "C".
  return BackgroundProcess(pid, UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))));
}

BackgroundProcess::BackgroundProcess(BackgroundProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), descriptor_(std::move(other.descriptor_)) {}

BackgroundProcess& BackgroundProcess::operator=(BackgroundProcess&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
    descriptor_ = std::move(other.descriptor_);
  }
  return *this;
}

BackgroundProcess::~BackgroundProcess() {
  end();
}

void BackgroundProcess::end() noexcept {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
}

void BackgroundProcess::send(int signal) const noexcept {
  if (pid_ >= 0) ::kill(pid_, signal);
}

std::optional<int> BackgroundProcess::wait(std::chrono::milliseconds timeout) {
  if (pid_ < 0) return std::nullopt;
  pollfd watched{.fd = descriptor_.get(), .events = POLLIN, .revents = 0};
  (void)::poll(&watched, 1, static_cast<int>(timeout.count()));
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::optional<std::string> wait_for_line(const std::string& path, const std::string& needle,
                                         std::chrono::milliseconds timeout, BackgroundProcess* writer) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    // Before the look: what it wrote last is seen, too.
    const bool last_look = std::chrono::steady_clock::now() >= deadline ||
                           (writer != nullptr && (writer->pid() < 0 || writer->wait(kLookAgain)));
    std::istringstream lines(read_text(path));
    for (std::string line; std::getline(lines, line);) {
      // Without its newline it is not all there yet.
      if (!lines.eof() && line.find(needle) != std::string::npos) return line;
    }
    if (last_look) return std::nullopt;
    if (writer == nullptr) (void)::poll(nullptr, 0, static_cast<int>(kLookAgain.count()));
  }
}

}  // namespace limpid
