// fork(2) without exec: the child has our code and nothing else of ours but one socket.
#include "service/child_channel.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <tuple>

namespace limpid {

bool become_child(int channel, pid_t parent, const std::optional<UnprivilegedUser>& user, const char* name) {
  // The user first: changing it clears PR_SET_PDEATHSIG (prctl(2)).
  if (user && !give_up_privileges(*user, {})) return false;
  if (!user) std::ignore = give_up_capabilities();  // a supervisor's filter may forbid even that
  // Neither sockets nor the standard output that somebody may wait on for its end.
  const int nothing = open("/dev/null", O_RDWR);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (nothing >= 0) dup2(nothing, fd);
  }
  if (channel == kChildChannel ? fcntl(channel, F_SETFD, 0) != 0 : dup2(channel, kChildChannel) < 0) return false;
  if (close_range(kChildChannel + 1, ~0U, 0) != 0) return false;
  prctl(PR_SET_NAME, name, 0, 0, 0);
  // Whoever kills the relay with SIGKILL means this process too. It may have happened already.
  return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == parent;
}

void end_child(pid_t pid) noexcept {
  if (kill(pid, SIGKILL) != 0) return;
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace limpid
