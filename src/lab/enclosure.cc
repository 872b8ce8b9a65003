// Runs a program so that nothing of it outlives it: three processes in one another, the outer ones watching over the inner.
// Called by the lab's verb; never touches the network.
//
//   the caller   waits, and looks after the terminal
//   first        PID 1 of the new PID namespace: reaps orphans, passes signals on; when it ends the kernel kills all the rest
//                (pid_namespaces(7)), and PR_SET_PDEATHSIG ends it when the caller dies, even of SIGKILL
//   main         what the user wanted
//
// Signals are taken from blocked sets, never by handlers. One that has a sender (kill(2)) goes down from process to process.
//
// The terminal: in a pipeline or in the background all three stay in the caller's process group, and what the terminal
// sends reaches each of them. When the caller has the terminal for itself, first and main become a group of their own
// and the terminal's foreground, because inside the PID namespace the caller's group has no number and shells with job
// control fail without one (getpgrp(2) gives 0, tcsetpgrp(3) takes none). The caller then does what the terminal would
// have done to its group: `first` tells it, through a pipe, that main was stopped (^Z) or killed by ^C.
#include "lab/enclosure.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <optional>
#include <utility>

#include "net/namespace.h"

namespace limpid {
namespace {

constexpr std::array kPassedOn{SIGTERM, SIGHUP, SIGINT, SIGQUIT};

// A notice is one byte: SIGSTOP for "main was stopped", or the signal that killed it.
using Notice = unsigned char;

sigset_t awaited_signals() noexcept {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int signal : kPassedOn) sigaddset(&set, signal);
  return set;
}

// Those, and what is blocked so that tcsetpgrp(3) from the background does not stop us (SIGTTOU), and so that the
// caller learns that its shell has continued it (SIGCONT, which continues even when it is blocked).
sigset_t blocked_signals() noexcept {
  sigset_t set = awaited_signals();
  sigaddset(&set, SIGTTOU);
  sigaddset(&set, SIGCONT);
  return set;
}

class BlockedSignals {
 public:
  BlockedSignals() noexcept {
    const sigset_t blocked = blocked_signals();
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  BlockedSignals(BlockedSignals&&) = delete;
  BlockedSignals& operator=(BlockedSignals&&) = delete;
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

// One that came before there was anybody to pass it on to.
std::optional<int> pending_signal() noexcept {
  const sigset_t awaited = awaited_signals();
  const timespec at_once{};
  for (;;) {
    const int signal = ::sigtimedwait(&awaited, nullptr, &at_once);
    if (signal < 0 && errno == EAGAIN) return std::nullopt;
    if (signal > 0 && signal != SIGCHLD) return signal;
  }
}

int exit_status_of(int wait_status) noexcept {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

[[noreturn]] void leave(int exit_status) noexcept {
  (void)std::fflush(nullptr);
  ::_exit(exit_status);
}

// The caller's terminal, when the caller has it for itself: its group is the foreground, and no part of a pipeline.
class Terminal {
 public:
  Terminal() noexcept
      : descriptor_(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)),
        is_ours_(descriptor_.valid() && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1 &&
                 ::isatty(STDERR_FILENO) == 1 && is_foreground()) {}
  [[nodiscard]] bool is_ours() const noexcept { return is_ours_; }
  [[nodiscard]] bool is_foreground() const noexcept { return ::tcgetpgrp(descriptor_.get()) == ::getpgrp(); }
  void give_to(pid_t group) const noexcept { (void)::tcsetpgrp(descriptor_.get(), group); }

 private:
  UniqueFd descriptor_;
  bool is_ours_;
};

// Lends the caller's terminal to the group inside, and takes it back.
class TerminalLender {
 public:
  TerminalLender(const Terminal& terminal, pid_t group) noexcept : terminal_(terminal), group_(group) {}

  // What ^Z would have done to the caller's group. Returns once somebody has continued it.
  void stop() noexcept {
    take_back();
    ::kill(0, SIGTSTP);
    go_on();
  }
  // After `fg` or `bg`: only the former makes us the foreground.
  void go_on() noexcept {
    if (terminal_.is_foreground()) {
      terminal_.give_to(group_);
      lent_ = true;
    }
    ::kill(-group_, SIGCONT);
  }
  // What ^C would have done to the caller's group. It is blocked here, so it acts when the caller has tidied up.
  void end(int signal) noexcept {
    take_back();
    if (signal == SIGINT || signal == SIGQUIT) ::kill(0, signal);
  }

 private:
  void take_back() noexcept {
    if (lent_) terminal_.give_to(::getpgrp());
    lent_ = false;
  }

  const Terminal& terminal_;
  pid_t group_;
  bool lent_ = true;  // `first` has helped itself
};

// What `first` has told so far: acts on a stop, and returns the signal that killed main, or 0.
int read_notices(const UniqueFd& notices, TerminalLender* lender) noexcept {
  int killed_by = 0;
  Notice notice = 0;
  while (::read(notices.get(), &notice, 1) == 1) {
    if (notice != SIGSTOP) killed_by = notice;
    if (notice == SIGSTOP && lender != nullptr) lender->stop();
  }
  return killed_by;
}

// Passes on what has a sender; what the terminal makes (SI_KERNEL) has reached its whole foreground group. True when
// something was passed on.
bool pass_signals_on(const UniqueFd& signals, pid_t first, TerminalLender* lender) noexcept {
  bool passed_on = false;
  signalfd_siginfo info{};
  while (::read(signals.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCONT && lender != nullptr) lender->go_on();
    if (signal == SIGCONT || signal == SIGCHLD || info.ssi_code > 0) continue;
    ::kill(first, signal);
    passed_on = true;
  }
  return passed_on;
}

// The caller's wait for `first`. `lender` is null when there is no terminal to look after.
int wait_outside(pid_t first, const UniqueFd& notices, TerminalLender* lender) noexcept {
  sigset_t wanted = awaited_signals();
  sigaddset(&wanted, SIGCONT);
  const UniqueFd signals(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  std::array<pollfd, 2> watched{pollfd{.fd = signals.get(), .events = POLLIN, .revents = 0},
                                pollfd{.fd = notices.get(), .events = POLLIN, .revents = 0}};
  int killed_by = 0;
  bool passed_on = false;
  for (;;) {
    int status = 0;
    const bool ended = ::waitpid(first, &status, WNOHANG) == first;
    if (const int signal = read_notices(notices, lender); signal != 0) killed_by = signal;
    if (ended) {
      // A signal that was sent to us alone is not the whole group's business.
      if (lender != nullptr) lender->end(passed_on ? 0 : killed_by);
      return exit_status_of(status);
    }
    (void)::poll(watched.data(), watched.size(), -1);
    // `first` is ending: SIGCHLD follows, and until then a pipe without a writer would wake us again and again.
    if ((watched[1].revents & POLLHUP) != 0) watched[1].fd = -1;
    if (pass_signals_on(signals, first, lender)) passed_on = true;
  }
}

// The new process's own view of processes, which its parent's does not see (MS_PRIVATE).
Status mount_proc() {
  static constexpr auto kRemedy =
      "a container hides parts of /proc: run it outside of the container, or with the container's /proc unmasked";
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return system_error(errno, "make private", "/");
  if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) < 0) {
    return system_error(errno, "mount", "/proc", errno == EPERM ? kRemedy : "");
  }
  return {};
}

// Whether anybody reads our notices: not when the caller died before PR_SET_PDEATHSIG took effect.
bool caller_lives(const UniqueFd& notices) noexcept {
  pollfd watched{.fd = notices.get(), .events = 0, .revents = 0};
  return ::poll(&watched, 1, 0) == 0;
}

}  // namespace

Enclosure::Enclosure(UniqueFd notices, bool leads_terminal) noexcept
    : notices_(std::move(notices)), leads_terminal_(leads_terminal) {}

Result<int> Enclosure::supervise(const std::function<int()>& main) const {
  if (const auto signal = pending_signal()) return 128 + *signal;
  (void)std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return system_error(errno, "fork", "");
  if (child == 0) {
    const sigset_t blocked = blocked_signals();
    ::pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
    leave(main());
  }
  const auto notify = [this](int signal) {
    const auto notice = static_cast<Notice>(signal);
    // A caller that is gone needs no notice.
    if (leads_terminal_) [[maybe_unused]]
      const auto written = ::write(notices_.get(), &notice, 1);
  };
  sigset_t wanted = awaited_signals();
  sigaddset(&wanted, SIGCONT);
  for (;;) {
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0;) {
      if (pid != child) continue;
      if (WIFSTOPPED(status)) {
        notify(SIGSTOP);
        continue;
      }
      if (WIFSIGNALED(status)) notify(WTERMSIG(status));
      return exit_status_of(status);
    }
    siginfo_t info{};
    const int signal = ::sigwaitinfo(&wanted, &info);
    // SIGCONT goes on in any case: a shell that was stopped has a process group of its own.
    if (signal > 0 && signal != SIGCHLD && (signal == SIGCONT || info.si_code <= 0)) ::kill(child, signal);
  }
}

Result<int> run_enclosed(const std::function<int(const Enclosure&)>& first,
                         const std::function<int(const Error&)>& report) {
  if (!has_capability(CAP_SYS_ADMIN)) {
    if (auto rooted = become_root_in_user_namespace(); !rooted) return std::unexpected(rooted.error());
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) < 0) return system_error(errno, "make", "pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  // CLONE_NEWPID concerns the children only; CLONE_NEWNS is left to the child, so that the caller keeps the mounts it
  // knows.
  if (::unshare(CLONE_NEWPID) < 0) return system_error(errno, "create", "PID namespace");

  const Terminal terminal;
  const BlockedSignals blocked;
  // Whoever started us may have ignored it, and that is inherited: then nobody could be waited for.
  (void)std::signal(SIGCHLD, SIG_DFL);
  if (const auto signal = pending_signal()) return 128 + *signal;
  (void)std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return system_error(errno, "fork", "");
  if (child == 0) {
    read_end.reset();
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!caller_lives(write_end)) ::_exit(128 + SIGKILL);
    if (terminal.is_ours()) {
      ::setpgid(0, 0);
      terminal.give_to(::getpid());
    }
    if (::unshare(CLONE_NEWNS) < 0) leave(report(system_error(errno, "create", "mount namespace").error()));
    if (auto mounted = mount_proc(); !mounted) leave(report(mounted.error()));
    leave(first(Enclosure(std::move(write_end), terminal.is_ours())));
  }
  write_end.reset();
  TerminalLender lender(terminal, child);
  return wait_outside(child, read_end, terminal.is_ours() ? &lender : nullptr);
}

}  // namespace limpid
