// Assumption: the descriptor of a seccomp listener hangs up when the last process under its filter has gone, children that
// outlive the first one included, and not before. The supervisor of src/exec knows from nothing else when to end.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <csignal>

#include "tests/kernel/testbed.h"

namespace limpid::testbed {
namespace {

// A process that loads the filter, tells the listener's number, forks a child that reads from `last_words`, and exits.
pid_t start_filtered(int tell, int last_words) {
  const pid_t first = ::fork();
  if (first != 0) return first;
  sock_filter allow{.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = SECCOMP_RET_ALLOW};
  const sock_fprog program{.len = 1, .filter = &allow};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const auto listener =
      static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
  (void)::write(tell, &listener, sizeof listener);
  char byte = 0;
  (void)::read(tell, &byte, 1);  // the test has fetched it
  ::close(listener);
  if (::fork() == 0) (void)::read(last_words, &byte, 1);
  ::_exit(0);
}

TEST(SeccompListener, hangs_up_when_the_last_process_has_gone) {
  std::array<int, 2> channel{};
  std::array<int, 2> pipe{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel.data()), 0);
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const UniqueFd ours(channel[0]);
  const UniqueFd theirs(channel[1]);
  const UniqueFd reader(pipe[0]);
  const UniqueFd writer(pipe[1]);
  const pid_t first = start_filtered(theirs.get(), reader.get());
  int number = -1;
  ASSERT_EQ(::read(ours.get(), &number, sizeof number), static_cast<ssize_t>(sizeof number));
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, first, 0)));
  const UniqueFd listener(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
  if (!listener.valid()) {
    ::kill(first, SIGKILL);
    ::waitpid(first, nullptr, 0);
    GTEST_SKIP() << "seccomp user notification or pidfd_getfd is not permitted here";
  }
  ASSERT_EQ(::write(ours.get(), "", 1), 1);
  ASSERT_EQ(::waitpid(first, nullptr, 0), first);
  EXPECT_FALSE(wait_for(listener.get(), 0, kSilence)) << "its child still uses the filter";
  ASSERT_EQ(::write(writer.get(), "", 1), 1);
  EXPECT_TRUE(wait_for(listener.get(), 0, kPatience)) << "nobody uses it any more";
}

}  // namespace
}  // namespace limpid::testbed
