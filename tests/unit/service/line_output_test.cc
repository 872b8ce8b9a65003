// Lines on a file that is full for a while, and on a pipe that nobody reads.
#include "service/line_output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kNoPatience{0};

/// A file that takes so many bytes and no more, as a full disk does: RLIMIT_FSIZE, with EFBIG for ENOSPC.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : before_(signal(SIGXFSZ, SIG_IGN)), file_(std::tmpfile()) {
    getrlimit(RLIMIT_FSIZE, &usual_);
    set_room(bytes);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  FullDisk(FullDisk&&) = delete;
  FullDisk& operator=(FullDisk&&) = delete;
  ~FullDisk() {
    set_room(usual_.rlim_cur);
    std::fclose(file_);
    signal(SIGXFSZ, before_);
  }

  void set_room(rlim_t bytes) const {
    const rlimit limit{.rlim_cur = bytes, .rlim_max = usual_.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  [[nodiscard]] int descriptor() const { return fileno(file_); }
  [[nodiscard]] std::string content() const {
    std::array<char, 256> buffer{};
    const ssize_t length = pread(descriptor(), buffer.data(), buffer.size(), 0);
    return {buffer.data(), static_cast<std::size_t>(length)};
  }

 private:
  sighandler_t before_;
  rlimit usual_{};
  FILE* file_;
};

TEST(LineOutput, a_line_that_was_cut_gets_its_rest_before_the_next_one) {
  const FullDisk disk(6);
  LineOutput output(disk.descriptor());
  const auto first = output.write("one\ntwo\nthree\nfour\n", kNoPatience);
  EXPECT_EQ(first.error, EFBIG);
  EXPECT_EQ(first.lines, 2U) << "three and four; two is only cut";
  EXPECT_TRUE(output.is_cut());
  EXPECT_EQ(disk.content(), "one\ntw");

  const auto second = output.write("five\n", kNoPatience);
  EXPECT_EQ(second.lines, 1U);
  EXPECT_EQ(second.error, EFBIG);
  EXPECT_EQ(disk.content(), "one\ntw");

  disk.set_room(1000);
  EXPECT_EQ(output.write("six\n", kNoPatience).error, 0);
  EXPECT_FALSE(output.is_cut());
  EXPECT_EQ(disk.content(), "one\ntwo\nsix\n");
}

TEST(LineOutput, the_rest_may_be_cut_again) {
  const FullDisk disk(2);
  LineOutput output(disk.descriptor());
  EXPECT_EQ(output.write("abcdef\n", kNoPatience).lines, 0U);
  disk.set_room(4);
  EXPECT_EQ(output.write("next\n", kNoPatience).lines, 1U);
  EXPECT_EQ(disk.content(), "abcd");
  disk.set_room(1000);
  EXPECT_EQ(output.write({}, kNoPatience).error, 0) << "the rest goes out by itself, too";
  EXPECT_EQ(disk.content(), "abcdef\n");
  EXPECT_FALSE(output.is_cut());
}

TEST(LineOutput, between_two_lines_nothing_is_cut) {
  const FullDisk disk(4);
  LineOutput output(disk.descriptor());
  EXPECT_EQ(output.write("one\ntwo\n", kNoPatience).lines, 1U);
  EXPECT_FALSE(output.is_cut());
}

TEST(LineOutput, a_pipe_that_nobody_reads_loses_whole_lines) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  LineOutput output(writer.get());
  const std::string line(999, 'x');
  LineOutput::Loss loss;
  for (int i = 0; i < 100 && loss.error == 0; ++i) loss = output.write(line + '\n', kNoPatience);
  EXPECT_EQ(loss.error, ETIMEDOUT);
  EXPECT_EQ(loss.lines, 1U);
  EXPECT_FALSE(output.is_cut());

  signal(SIGPIPE, SIG_IGN);
  reader.reset();
  EXPECT_EQ(output.write("a\nb\n", kNoPatience).error, EPIPE);
}

}  // namespace
}  // namespace limpid
