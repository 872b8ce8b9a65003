// LineOutput: whole lines on a file descriptor that may take none of them, or only a part: a full disk, a pipe that nobody empties. Called by the access log's thread;
// knows nothing of what the lines say, and says nothing itself.
//
// Theory of operation. What the descriptor does not take is lost, line by line, and counted, so that nothing here grows or waits. The one exception is the line of which it has taken a
// part: its rest is kept and goes out before anything else, so that no line is ever glued to a piece of another one.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace limpid {

class LineOutput {
 public:
  /// What was not written. `error`: of errno(3), why; ETIMEDOUT: nobody read. 0: everything was written.
  struct Loss {
    std::uint64_t lines = 0;
    int error = 0;
  };

  /// `fd` is borrowed, and may block.
  explicit LineOutput(int fd) noexcept : fd_(fd) {}

  /// `lines`, each with its newline, at most PIPE_BUF bytes of them where `fd` is a pipe: that many never block (pipe(7)). Waits for room, for `patience` in all.
  [[nodiscard]] Loss write(std::string_view lines, std::chrono::milliseconds patience);
  /// Whether the last line that was written lacks its rest.
  [[nodiscard]] bool is_cut() const noexcept { return !rest_.empty(); }

 private:
  /// As much of `bytes` as is taken goes away. 0, or why the rest was not taken.
  [[nodiscard]] int write_some(std::string_view& bytes, std::chrono::steady_clock::time_point deadline) const;

  int fd_;
  std::string rest_;  ///< of a line that was begun
};

}  // namespace limpid
