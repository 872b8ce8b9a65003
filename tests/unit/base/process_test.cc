// Running other programs: their outputs, their ends, and every way in which one can misbehave.
#include "base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

Result<ProcessOutput> shell(const std::string& script, std::string_view input = {},
                            std::chrono::milliseconds timeout = 10s) {
  const std::vector<std::string> argv{"/bin/sh", "-c", script};
  return run_process(argv, input, timeout);
}

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
}

/// Descriptors beyond the standard ones that whoever started this test has handed to it without close-on-exec.
int inherited_descriptors() {
  int count = 0;
  for (int fd = 3; fd < 1024; ++fd) {
    const int flags = fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) ++count;
  }
  return count;
}

TEST(RunProcess, returns_both_outputs_and_the_exit_status) {
  const auto result = shell("echo out; echo err >&2; exit 7");
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->exit_status, 7);
  EXPECT_EQ(result->standard_output, "out\n");
  EXPECT_EQ(result->standard_error, "err\n");
}

TEST(RunProcess, passes_arguments_as_they_are) {
  const std::vector<std::string> argv{"/usr/bin/printf", "%s|", "two words", "$HOME", "", "'\"\\\n", "-x"};
  EXPECT_EQ(run_process(argv, "").value().standard_output, "two words|$HOME||'\"\\\n|-x|");
}

TEST(RunProcess, feeds_standard_input_and_closes_it) {
  EXPECT_EQ(shell("cat", "hello").value().standard_output, "hello");
  EXPECT_EQ(shell("cat; echo end").value().standard_output, "end\n")
      << "an empty input is an end of file, not a terminal";
}

TEST(RunProcess, large_input_and_output_at_once_do_not_block_each_other) {
  std::string input(std::size_t{4} << 20U, 'x');
  for (std::size_t index = 0; index < input.size(); index += 97) input[index] = static_cast<char>('a' + index % 26);
  const auto result = shell("tee /dev/stderr", input);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_TRUE(result->standard_output == input);
  EXPECT_TRUE(result->standard_error == input);
}

TEST(RunProcess, a_long_listing_is_whole) {
  const auto result = shell("head -c 40000000 /dev/zero");
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->standard_output.size(), 40'000'000U);
}

TEST(RunProcess, endless_output_is_an_error_and_never_taken_for_the_whole) {
  const auto result = shell("cat /dev/zero");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().cause, "it printed more than 64 MiB and was killed");
}

TEST(RunProcess, endless_complaints_are_cut_and_the_program_still_ends) {
  const auto result = shell("head -c 20000000 /dev/zero >&2; exit 3");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit_status, 3);
  EXPECT_EQ(result->standard_error.size(), std::size_t{16} << 20U);
}

TEST(RunProcess, a_program_that_does_not_read_its_input_is_judged_by_its_status) {
  const std::string input(std::size_t{1} << 20U, 'x');
  const auto result = shell("exec <&-; echo ignored; exit 3", input);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->exit_status, 3);
  EXPECT_EQ(result->standard_output, "ignored\n");
}

TEST(RunProcess, a_signal_becomes_128_and_its_number) {
  EXPECT_EQ(shell("kill -KILL $$").value().exit_status, 128 + SIGKILL);
  EXPECT_EQ(shell("kill -SEGV $$").value().exit_status, 128 + SIGSEGV);
}

TEST(RunProcess, a_missing_program_is_an_error_that_names_it) {
  const std::vector<std::string> argv{"/nonexistent/program"};
  const auto result = run_process(argv, "");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOENT);
  EXPECT_NE(result.error().message().find("/nonexistent/program"), std::string::npos);
}

TEST(RunProcess, a_file_that_cannot_be_executed_is_an_error) {
  const std::vector<std::string> argv{"/etc/hostname"};
  ASSERT_FALSE(run_process(argv, ""));
}

TEST(RunProcess, what_takes_too_long_is_killed) {
  const auto start = Clock::now();
  const auto result = shell("exec sleep 60", "", 200ms);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().cause.find("in time"), std::string::npos) << result.error().message();
  EXPECT_GE(Clock::now() - start, 200ms);
  EXPECT_LT(Clock::now() - start, 10s);
}

TEST(RunProcess, what_is_not_wanted_any_more_is_killed_at_once) {
  const UniqueFd stop(eventfd(1, EFD_CLOEXEC));
  const auto start = Clock::now();
  const std::vector<std::string> argv{"/bin/sh", "-c", "sleep 60"};
  const auto output = run_process(argv, {}, 30s, {}, stop.get());
  ASSERT_FALSE(output);
  EXPECT_NE(output.error().message().find("not wanted any more"), std::string::npos);
  EXPECT_LT(Clock::now() - start, 10s);
}

TEST(RunProcess, closing_its_outputs_does_not_save_a_program_from_the_timeout) {
  const auto start = Clock::now();
  ASSERT_FALSE(shell("exec >&- 2>&-; exec sleep 20", "", 200ms));
  EXPECT_LT(Clock::now() - start, 10s);
}

TEST(RunProcess, a_grandchild_that_keeps_the_outputs_open_is_not_waited_for_beyond_the_timeout) {
  const auto start = Clock::now();
  std::ignore = shell("sleep 15 & exit 0", "", 300ms);
  EXPECT_LT(Clock::now() - start, 10s);
}

TEST(RunProcess, the_users_environment_does_not_reach_the_program) {
  setenv("LIMPID_TEST_SECRET", "value", 1);
  const auto result = shell("echo \"[$LIMPID_TEST_SECRET] $LC_ALL\"");
  unsetenv("LIMPID_TEST_SECRET");
  EXPECT_EQ(result.value().standard_output, "[] C\n");
}

TEST(RunProcess, leaves_no_descriptor_open_and_gives_none_away) {
  const int unrelated = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const auto before = open_descriptors();
  // The three standard ones, and one that ls itself holds for the directory that it lists.
  EXPECT_EQ(shell("exec ls /proc/self/fd | wc -l").value().standard_output,
            std::to_string(4 + inherited_descriptors()) + "\n");
  std::ignore = shell("exec sleep 60", "", 50ms);
  const std::vector<std::string> missing{"/nonexistent/program"};
  std::ignore = run_process(missing, "input");
  EXPECT_EQ(open_descriptors(), before);
  close(unrelated);
}

TEST(RunProcess, blocked_signals_are_not_inherited_and_ours_stay_as_they_were) {
  sigset_t blocked{};
  sigset_t original{};
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &blocked, &original), 0);
  const auto result = shell("kill -TERM $$; echo survived");
  sigset_t after{};
  pthread_sigmask(SIG_SETMASK, &original, &after);
  EXPECT_EQ(result.value().exit_status, 128 + SIGTERM);
  EXPECT_EQ(sigismember(&after, SIGTERM), 1);
  EXPECT_EQ(sigismember(&after, SIGPIPE), 0);
}

TEST(FindSystemProgram, finds_what_is_installed) {
  const auto path = find_system_program("sh", "dash").value();
  EXPECT_TRUE(path.ends_with("/sh")) << path;
  EXPECT_TRUE(path.starts_with('/')) << path;
}

TEST(FindSystemProgram, names_the_package_of_what_is_not) {
  const auto path = find_system_program("no-such-program", "some-package");
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().kind, ErrorKind::unsupported);
  EXPECT_EQ(path.error().remedy, "apt install some-package");
}

TEST(FindSystemProgram, does_not_look_at_path) {
  const std::string before = std::getenv("PATH");
  setenv("PATH", "/nonexistent", 1);
  EXPECT_TRUE(find_system_program("sh", "dash"));
  setenv("PATH", before.c_str(), 1);
}

}  // namespace
}  // namespace limpid
