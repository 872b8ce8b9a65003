// Enclosures: what runs in one ends with it, and with whoever started it.
#include "lab/enclosure.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <functional>
#include <string>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr int kNotPermitted = 77;
constexpr int kUnexpected = 78;

// Runs `body` in a child, because run_enclosed() leaves its caller unable to fork.
pid_t start(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  return child;
}

int wait_status(pid_t child) {
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

int enclose(const std::function<int()>& main) {
  const auto report = [](const Error& error) {
    return error.kind == ErrorKind::unsupported ? kNotPermitted : kUnexpected;
  };
  const auto status = run_enclosed(
      [&](const Enclosure& enclosure) {
        const auto outcome = enclosure.supervise(main);
        return outcome ? *outcome : report(outcome.error());
      },
      report);
  return status ? *status : report(status.error());
}

#define LIMPID_SKIP_UNLESS_PERMITTED(status)                     \
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotPermitted) \
  GTEST_SKIP() << "PID namespaces are not permitted "            \
                  "here"

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// True when every process that has the other end open has ended.
bool hangs_up(const UniqueFd& read_end) {
  pollfd watched{.fd = read_end.get(), .events = 0, .revents = 0};
  return ::poll(&watched, 1, 10'000) == 1 && (watched.revents & POLLHUP) != 0;
}

TEST(Enclosure, exit_status_comes_out) {
  const int status = wait_status(start([] { return enclose([] { return 42; }); }));
  LIMPID_SKIP_UNLESS_PERMITTED(status);
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST(Enclosure, death_by_signal_comes_out_as_128_and_the_signal) {
  const int status = wait_status(start([] { return enclose([] { return ::kill(::getpid(), SIGKILL); }); }));
  LIMPID_SKIP_UNLESS_PERMITTED(status);
  EXPECT_EQ(WEXITSTATUS(status), 128 + SIGKILL);
}

TEST(Enclosure, proc_shows_its_own_processes) {
  const int status = wait_status(start([] {
    return enclose([] {
      std::array<char, 16> self{};
      return ::readlink("/proc/self", self.data(), self.size() - 1) > 0 && self.data() == std::to_string(::getpid())
                 ? 0
                 : 1;
    });
  }));
  LIMPID_SKIP_UNLESS_PERMITTED(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Enclosure, orphans_end_with_it) {
  Pipe pipe = make_pipe();
  const pid_t child = start([] {
    return enclose([] {
      if (::fork() == 0) {
        ::setsid();
        for (;;) ::pause();
      }
      return 0;
    });
  });
  pipe.write_end.reset();
  const int status = wait_status(child);
  LIMPID_SKIP_UNLESS_PERMITTED(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(hangs_up(pipe.read_end));
}

TEST(Enclosure, sigkill_of_the_caller_ends_everything) {
  Pipe alive = make_pipe();
  Pipe ready = make_pipe();
  const pid_t child = start([&ready] {
    return enclose([&ready] {
      if (::fork() == 0) {
        ::setsid();
        (void)!::write(ready.write_end.get(), "r", 1);
        for (;;) ::pause();
      }
      for (;;) ::pause();
      return 0;
    });
  });
  alive.write_end.reset();
  ready.write_end.reset();
  char byte = 0;
  if (::read(ready.read_end.get(), &byte, 1) != 1) {
    const int status = wait_status(child);
    LIMPID_SKIP_UNLESS_PERMITTED(status);
    FAIL() << "did not become ready";
  }
  ::kill(child, SIGKILL);
  EXPECT_TRUE(WIFSIGNALED(wait_status(child)));
  EXPECT_TRUE(hangs_up(alive.read_end));
}

TEST(Enclosure, sigterm_is_passed_on) {
  Pipe ready = make_pipe();
  const pid_t child = start([&ready] {
    return enclose([&ready] {
      // Blocked and waited for: what a program that ends in order does.
      sigset_t wanted;
      sigemptyset(&wanted);
      sigaddset(&wanted, SIGTERM);
      ::sigprocmask(SIG_BLOCK, &wanted, nullptr);
      (void)!::write(ready.write_end.get(), "r", 1);
      return ::sigwaitinfo(&wanted, nullptr) == SIGTERM ? 5 : 6;
    });
  });
  ready.write_end.reset();
  char byte = 0;
  if (::read(ready.read_end.get(), &byte, 1) == 1) ::kill(child, SIGTERM);
  const int status = wait_status(child);
  LIMPID_SKIP_UNLESS_PERMITTED(status);
  EXPECT_EQ(WEXITSTATUS(status), 5);
}

}  // namespace
}  // namespace limpid
