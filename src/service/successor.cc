// What the program is, how it is started and how it is ended.
#include "service/successor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <string_view>
#include <utility>

#include "base/file_text.h"
#include "base/spawn.h"

namespace limpid {
namespace {

/// The first numbers behind the standard ones.
constexpr int kChannel = STDERR_FILENO + 1;
constexpr int kRulesLock = kChannel + 1;
constexpr int kPollMs = 5;

bool names(std::string_view setting, std::string_view variable) {
  return setting.starts_with(variable) && setting.substr(variable.size()).starts_with('=');
}

/// Ours, with those of `variables` in place of what there was under their names.
std::vector<std::string> make_environment(std::vector<std::string> variables) {
  variables.push_back(fmt::format("{}={}", kHandoverVariable, kChannel));
  variables.push_back(fmt::format("{}={}", kRulesLockVariable, kRulesLock));
  std::vector<std::string> all = variables;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view setting(*each);
    const bool replaced = std::ranges::any_of(
        variables, [&](std::string_view given) { return names(setting, given.substr(0, given.find('='))); });
    if (!replaced) all.emplace_back(setting);
  }
  return all;
}

std::string in_words(int status) {
  if (WIFSIGNALED(status)) return fmt::format("it was killed by signal {}", WTERMSIG(status));
  return fmt::format("it ended with status {}", WEXITSTATUS(status));
}

}  // namespace

Result<SuccessorProgram> SuccessorProgram::of_this_process() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
  if (length <= 0 || static_cast<std::size_t>(length) >= path.size())
    return system_error(length < 0 ? errno : ENAMETOOLONG, "read", "/proc/self/exe");
  SuccessorProgram program{.path = std::string(path.data(), static_cast<std::size_t>(length)), .arguments = {}};
  const std::string line = read_text("/proc/self/cmdline");
  for (std::size_t begin = 0; begin < line.size();) {
    const auto end = std::min(line.find('\0', begin), line.size());
    program.arguments.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  if (program.arguments.empty()) return failure("read", "/proc/self/cmdline", "there is nothing in it");
  return program;
}

Result<pid_t> start_successor(const SuccessorProgram& program, const SuccessorDescriptors& descriptors,
                              const std::vector<std::string>& variables) {
  std::vector<std::string> arguments = program.arguments;
  std::vector<std::string> settings = make_environment(variables);
  // As a program is started: no signal ignored that we ignore for ourselves. SIGHUP stays as nohup(1) has left it.
  SpawnSettings spawning({SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU});
  for (int number = 0; const int fd : descriptors.standard) spawning.connect(fd, number++);
  spawning.connect(descriptors.channel, kChannel);
  spawning.connect(descriptors.rules_lock, kRulesLock);
  spawning.close_from(kRulesLock + 1);
  pid_t pid = -1;
  if (const int code = spawning.spawn(pid, program.path.c_str(), exec_vector(arguments), exec_vector(settings));
      code != 0)
    return system_error(code, "start", program.path);
  return pid;
}

std::string end_successor(pid_t pid, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  int status = 0;
  for (;;) {
    const pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid) return in_words(status);
    if (ended < 0 && errno != EINTR) return "it is gone";
    if (std::chrono::steady_clock::now() >= deadline) break;
    poll(nullptr, 0, kPollMs);
  }
  kill(pid, SIGKILL);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return "it was killed, because it did not end";
}

}  // namespace limpid
