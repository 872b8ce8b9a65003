// The filter in children that try what it forbids: they say how it went by their exit status, or by the signal that ends them.
#include "base/syscall_filter.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <functional>

namespace limpid {
namespace {

constexpr auto kAllowed = std::to_array<unsigned>({SYS_exit_group, SYS_munmap, SYS_close, SYS_getpid});
constexpr auto kFatal = std::to_array<unsigned>({SYS_execve, SYS_ptrace});
constexpr auto kProtocols = std::to_array<unsigned>({NETLINK_ROUTE});
constexpr SyscallRules kRules{.allowed = kAllowed, .fatal = kFatal, .netlink_protocols = kProtocols};

constexpr int kNotFiltered = 254;

/// The wait status of a child that has the filter and then does `what`, whose result, 0 to 253, is its exit status.
int try_filtered(const std::function<int()>& what) {
  const pid_t child = fork();
  if (child == 0) {
    const bool ready = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && filter_syscalls(kRules).has_value();
    syscall(SYS_exit_group, ready ? what() : kNotFiltered);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

/// What `call` sets errno to, 0 where it succeeds.
int error_of(const std::function<long()>& call) {
  const int status = try_filtered([&] { return call() < 0 ? errno : 0; });
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_NE(WEXITSTATUS(status), kNotFiltered);
  return WEXITSTATUS(status);
}

class SyscallFilter : public testing::Test {
 protected:
  void SetUp() override {
    if (!kSyscallsAreFiltered) GTEST_SKIP() << "a sanitizer makes calls of its own";
  }
};

TEST_F(SyscallFilter, what_is_allowed_works) {
  EXPECT_EQ(error_of([] { return syscall(SYS_getpid); }), 0);
}

TEST_F(SyscallFilter, what_is_not_listed_is_not_permitted) {
  EXPECT_EQ(error_of([] { return syscall(SYS_getuid); }), EPERM);
  EXPECT_EQ(error_of([] { return syscall(SYS_kill, 1, 0); }), EPERM);
  EXPECT_EQ(error_of([] { return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY); }), EPERM);
}

TEST_F(SyscallFilter, what_an_intruder_calls_ends_the_process) {
  for (const unsigned call : kFatal) {
    const int status = try_filtered([call] { return syscall(call, 0, 0, 0, 0) < 0 ? 1 : 0; });
    ASSERT_TRUE(WIFSIGNALED(status)) << call;
    EXPECT_EQ(WTERMSIG(status), SIGSYS);
  }
}

TEST_F(SyscallFilter, what_is_newer_than_we_are_does_not_exist) {
  constexpr long kOfTheFuture = 5000;
  EXPECT_EQ(error_of([] { return syscall(kOfTheFuture); }), ENOSYS);
  EXPECT_EQ(error_of([] { return syscall(SYS_clone3, nullptr, 0); }), ENOSYS);
}

TEST_F(SyscallFilter, sockets_are_of_the_families_that_relaying_takes) {
  EXPECT_EQ(error_of([] { return socket(AF_INET, SOCK_DGRAM, 0); }), 0);
  EXPECT_EQ(error_of([] { return socket(AF_UNIX, SOCK_STREAM, 0); }), 0);
  EXPECT_EQ(error_of([] { return socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }), 0);
  EXPECT_EQ(error_of([] { return socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER); }), EPERM);
  EXPECT_EQ(error_of([] { return socket(AF_PACKET, SOCK_RAW, 0); }), EPERM);
}

TEST_F(SyscallFilter, no_memory_is_written_and_run) {
  const auto map = [](int protection) {
    return [protection]() -> long {
      void* const place = mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      return place == MAP_FAILED ? -1 : 0;
    };
  };
  EXPECT_EQ(error_of(map(PROT_READ | PROT_WRITE)), 0);
  EXPECT_EQ(error_of(map(PROT_READ | PROT_WRITE | PROT_EXEC)), EPERM);
  EXPECT_EQ(error_of([]() -> long {
              void* const place = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              return mprotect(place, 4096, PROT_READ | PROT_EXEC);
            }),
            EPERM);
}

TEST_F(SyscallFilter, processes_and_namespaces_are_not_made) {
  EXPECT_EQ(error_of([] { return syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr); }), EPERM);
  EXPECT_EQ(
      error_of([] { return syscall(SYS_clone, CLONE_THREAD | CLONE_NEWUSER, nullptr, nullptr, nullptr, nullptr); }),
      EPERM);
}

}  // namespace
}  // namespace limpid
