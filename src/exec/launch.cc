// Forks the supervisor, loads the filter, and hands the listener over; the caller then becomes the program.
//
//   the caller ──────────────── filter ── "listener is 5" ─────────────── execve: the program
//       └─ fork ─ fork ── the supervisor ─────── fetches listener ─ "ready" ─ serves until the last descendant has
//       ended
//
// The program runs in the process that was started, and not in a child of it: so its process id, exit status, death by
// a signal, stops, process group, terminal and limits are what they would be without us, and there is nothing to pass
// on. The supervisor is the additional process. The program must not find it among its children (a shell's `wait` would
// wait for it), so it is a grandchild whose parent has ended; it has a session of its own, no terminal, and holds none
// of the program's pipes but standard error. It ignores every signal that asks to end: it ends when the filter has no
// user left, and a service manager that ends the program by signalling the whole control group must not take the
// program's sockets away first.
//
// The supervisor is forked before the filter exists, because its own bind(2) must not be notified to itself. The
// listener is not sent but fetched (pidfd_getfd): that shows before the program starts that fetching is permitted.
#include "exec/launch.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <utility>

namespace limpid {
namespace {

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
constexpr unsigned long SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1UL << 5U;
#endif

constexpr int kChannel = 3;

// What the supervisor found out about fetching: 0, or an errno.
using Readiness = int;

Status not_started(std::string_view why) {
  return failure("start", "supervisor", why);
}

int load_filter(sock_fprog& program, unsigned long flags) noexcept {
  return static_cast<int>(
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, &program));
}

// Returns the listener, which is close-on-exec.
Result<UniqueFd> install_filter(const NotifiedCalls& wanted) {
  auto code = make_filter(wanted);
  sock_fprog program{.len = static_cast<unsigned short>(code.size()), .filter = code.data()};
  unsigned long flags = SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;  // since 5.19
  int listener = load_filter(program, flags);
  if (listener < 0 && errno == EINVAL) {
    flags = 0;
    listener = load_filter(program, flags);
  }
  if (listener < 0 && errno == EACCES) {
    // Without CAP_SYS_ADMIN, a filter is only for programs that can gain no privileges (seccomp(2)).
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error(errno, "set", "no_new_privs");
    listener = load_filter(program, flags);
  }
  if (listener >= 0) return UniqueFd(listener);
  const int code_of_failure = errno;
  switch (code_of_failure) {
    case EBUSY:
      return unsupported("load", "seccomp filter", "this process is under a seccomp supervisor already",
                         "one of limpid exec, or of a container manager; there can be only one");
    case ENOSYS:
    case EINVAL:
      return unsupported("load", "seccomp filter", "this kernel has no seccomp user notification",
                         "needs Linux 5.10 or newer with CONFIG_SECCOMP_FILTER");
    default: return system_error(code_of_failure, "load", "seccomp filter");
  }
}

// What lending needs, and nothing else.
void drop_other_capabilities() noexcept {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return;
  constexpr std::uint32_t kKept = 1U << CAP_NET_ADMIN | 1U << CAP_NET_RAW | 1U << CAP_SYS_PTRACE;
  data[0] = {.effective = data[0].permitted & kKept, .permitted = data[0].permitted & kKept, .inheritable = 0};
  data[1] = {};
  (void)::syscall(SYS_capset, &header, data.data());
}

// Descriptors: /dev/null, /dev/null, standard error, the channel. Nothing else of the program's is held open.
void detach(UniqueFd channel) noexcept {
  (void)::setsid();
  if (::chdir("/") != 0) ::_exit(1);  // or it would keep a file system of the user's in use
  (void)::prctl(PR_SET_NAME, "limpid-exec");
  for (const int signal :
       {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGXCPU}) {
    (void)::signal(signal, SIG_IGN);
  }
  sigset_t none;
  sigemptyset(&none);
  (void)::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  const int raw = channel.release();
  if (raw != kChannel) (void)::dup3(raw, kChannel, O_CLOEXEC);
  (void)::close_range(kChannel + 1, ~0U, 0);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int inherited : {STDIN_FILENO, STDOUT_FILENO}) {
    if (null.valid()) {
      (void)::dup2(null.get(), inherited);
    } else {
      (void)::close(inherited);
    }
  }
}

[[noreturn]] void be_supervisor(UniqueFd channel, pid_t caller, const ExecOptions& options, const Report& report) {
  detach(std::move(channel));
  drop_other_capabilities();
  UniqueFd held(kChannel);
  int number = -1;
  if (::read(held.get(), &number, sizeof number) != sizeof number) ::_exit(1);
  Readiness readiness = 0;
  const auto program = Caller::open(caller);
  if (!program) readiness = program.error().code;
  auto listener = program ? program->borrow(number) : std::unexpected(program.error());
  if (!listener && readiness == 0) readiness = listener.error().code;
  if (::write(held.get(), &readiness, sizeof readiness) != sizeof readiness || readiness != 0) ::_exit(1);
  held.reset();
  serve(*listener, *program, options, report);
  ::_exit(0);
}

Status fork_supervisor(UniqueFd channel, const ExecOptions& options, const Report& report) {
  const pid_t caller = ::getpid();
  (void)std::fflush(nullptr);
  const pid_t between = ::fork();
  if (between < 0) return system_error(errno, "fork", "");
  if (between == 0) {
    const pid_t supervisor = ::fork();
    if (supervisor == 0) be_supervisor(std::move(channel), caller, options, report);
    ::_exit(0);
  }
  (void)::waitpid(between, nullptr, 0);
  // Its SIGCHLD stays pending where the caller was started with that signal blocked; the program knows of no child.
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  const timespec at_once{};
  (void)::sigtimedwait(&child, nullptr, &at_once);
  return {};
}

}  // namespace

Status start_supervised(const ExecOptions& options, const Report& report) {
  if (auto may = check_may_lend(options.mark); !may) return may;
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return system_error(errno, "make", "socket pair");
  }
  const UniqueFd channel(ends[0]);
  if (auto forked = fork_supervisor(UniqueFd(ends[1]), options, report); !forked) return forked;
  const auto listener = install_filter(options.notified_calls());
  if (!listener) return std::unexpected(listener.error());

  const int number = listener->get();
  Readiness readiness = 0;
  if (::send(channel.get(), &number, sizeof number, MSG_NOSIGNAL) != sizeof number) return not_started("it has ended");
  if (::read(channel.get(), &readiness, sizeof readiness) != sizeof readiness) return not_started("it has ended");
  if (readiness == 0) return {};
  if (readiness == ENOSYS) {
    return unsupported("start", "supervisor", "this kernel cannot fetch descriptors of processes",
                       "needs Linux 5.10 or newer");
  }
  return system_error(
      readiness, "fetch", "descriptor of the program",
      "needs CAP_SYS_PTRACE, or where kernel.yama.ptrace_scope is 0 only the same user: run it as root");
}

}  // namespace limpid
