// signalfd(2), and the signals that must not touch a relay at all.
#include "service/signals.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace limpid {

Result<UniqueFd> take_signals(bool and_upgrade) {
  // splice(2) to a socket whose peer has gone raises SIGPIPE; the error it returns says enough.
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return system_error(errno, "ignore SIGPIPE", "");
  // A gateway that a key press or a read in the background stops would hold all its traffic and serve none of it.
  for (const int stop : {SIGTSTP, SIGTTIN, SIGTTOU}) {
    if (std::signal(stop, SIG_IGN) == SIG_ERR) return system_error(errno, "ignore", "stop signals");
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  if (and_upgrade) sigaddset(&signals, SIGUSR2);
  struct sigaction hangup{};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&signals, SIGHUP);  // nohup(1) asks us to live on
  if (pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) return system_error(errno, "block signals", "");
  UniqueFd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return system_error(errno, "create signalfd", "");
  return fd;
}

int next_signal(int signal_fd, std::chrono::milliseconds patience) {
  pollfd wanted{.fd = signal_fd, .events = POLLIN, .revents = 0};
  poll(&wanted, 1, static_cast<int>(patience.count()));
  signalfd_siginfo info{};
  if (read(signal_fd, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace limpid
