// The namespace is made by a forked child, because leaving one needs privileges that entering a user namespace may not give back.
#include "intercept/trial.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "net/namespace.h"

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

Result<std::string> in_the_child(const std::function<Result<std::string>(bool)>& work) {
  if (enter_new_network_namespace()) return work(false);
  if (auto entered = become_root_in_user_namespace(); !entered) return std::unexpected(entered.error());
  return work(true);
}

}  // namespace

Result<std::string> try_in_new_namespace(const std::function<Result<std::string>(bool)>& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error(errno, "open", "pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return system_error(errno, "fork", "");
  if (child == 0) {
    const auto outcome = in_the_child(work);
    write_all(write_end.get(), outcome ? *outcome : outcome.error().message());
    ::_exit(outcome ? EXIT_SUCCESS : EXIT_FAILURE);  // none of the parent's destructors may run here
  }
  write_end.reset();
  std::string text = read_all(read_end.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS) return text;
  return failure("try it in a namespace of its own", "", text.empty() ? "the process for it died" : text);
}

}  // namespace limpid
