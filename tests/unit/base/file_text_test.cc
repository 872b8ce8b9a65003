// read_text(): what other processes have below /proc, while they end.
#include "base/file_text.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace limpid {
namespace {

TEST(FileText, reads_all_of_it) {
  EXPECT_EQ(read_text("/proc/self/comm").back(), '\n');
  EXPECT_GT(read_text("/proc/self/status").size(), 500U);
}

TEST(FileText, what_is_not_there_is_empty) {
  EXPECT_EQ(read_text("/nonexistent/file"), "");
  EXPECT_EQ(read_text("/proc"), "") << "a directory cannot be read, and that is no exception";
}

TEST(FileText, a_process_that_has_ended_is_no_exception) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info,
         WEXITED | WNOWAIT);  // a zombie: some of its files open and cannot be read
  const std::string folder = "/proc/" + std::to_string(child);
  for (const char* name : {"/comm", "/cmdline", "/environ", "/maps", "/mem"}) {
    EXPECT_NO_THROW({ [[maybe_unused]] const auto text = read_text(folder + name); }) << name;
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(read_text(folder + "/comm"), "");
}

}  // namespace
}  // namespace limpid
