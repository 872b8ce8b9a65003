// A program that runs beside us for a while: started, waited for, and never left behind.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Owns a child process: the destructor kills (SIGKILL) and reaps it.
class BackgroundProcess {
 public:
  struct Output {
    std::string standard_output;  ///< path; appended to
    std::string standard_error;   ///< path; appended to
  };

  /// Runs argv[0], a path, in the network namespace of the calling thread.
  [[nodiscard]] static Result<BackgroundProcess> start(const std::vector<std::string>& argv, const Output& output);
  BackgroundProcess(BackgroundProcess&& other) noexcept;
  BackgroundProcess& operator=(BackgroundProcess&& other) noexcept;
  BackgroundProcess(const BackgroundProcess&) = delete;
  BackgroundProcess& operator=(const BackgroundProcess&) = delete;
  ~BackgroundProcess();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  void send(int signal) const noexcept;
  /// The exit status (128 + signal when a signal ended it), or nothing when it is still running after `timeout`.
  [[nodiscard]] std::optional<int> wait(std::chrono::milliseconds timeout);

 private:
  BackgroundProcess(pid_t pid, UniqueFd descriptor) noexcept;
  void end() noexcept;

  pid_t pid_ = -1;       ///< -1: nothing to reap
  UniqueFd descriptor_;  ///< a pidfd: readable once the process has ended
};

/// Looks every few milliseconds whether `path` has a line with `needle` in it, for at most `timeout`. Stops early when
/// `writer` has ended.
[[nodiscard]] std::optional<std::string> wait_for_line(const std::string& path, const std::string& needle,
                                                       std::chrono::milliseconds timeout,
                                                       BackgroundProcess* writer = nullptr);

}  // namespace limpid
