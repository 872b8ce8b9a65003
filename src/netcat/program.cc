// posix_spawnp(3) with two pipes. Our ends do not block, the program's do.
#include "netcat/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/spawn.h"

namespace limpid {
namespace {

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "make a pipe", "");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

int status_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

Result<Program::Started> Program::start(const std::vector<std::string>& argv,
                                        const std::vector<std::pair<std::string, std::string>>& variables) {
  auto input = make_pipe();
  if (!input) return std::unexpected(input.error());
  auto output = make_pipe();
  if (!output) return std::unexpected(output.error());

  std::vector<std::string> words = argv;
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) {
    environment.push_back(name);
    environment.back().append("=").append(value);
  }
  // Behind ours, so that ours win.
  for (char** variable = environ; *variable != nullptr; ++variable) environment.emplace_back(*variable);

  SpawnSettings settings;
  settings.connect(input->read_end.get(), STDIN_FILENO);
  settings.connect(output->write_end.get(), STDOUT_FILENO);
  pid_t pid = -1;
  const int code = settings.spawn(pid, words.front().c_str(), exec_vector(words), exec_vector(environment),
                                  SpawnSettings::Search::in_path);
  if (code != 0) return system_error(code, "run", argv.front());

  LocalSide side;
  side.is_program = true;
  side.owned_input = std::move(output->read_end);
  side.owned_output = std::move(input->write_end);
  for (const int fd : {side.owned_input.get(), side.owned_output.get()}) fcntl(fd, F_SETFL, O_NONBLOCK);
  return Started{.program = Program(pid), .side = std::move(side)};
}

std::optional<int> Program::poll() {
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return std::nullopt;
  return status_of(status);
}

int Program::wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  return status_of(status);
}

}  // namespace limpid
