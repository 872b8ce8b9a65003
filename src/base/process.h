// Runs other programs without a shell: an argument vector, bytes for its standard input, bytes back.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

struct ProcessOutput {
  int exit_status = 0;  ///< 128 + signal number when a signal ended it
  std::string standard_output;
  std::string standard_error;
};

/// The absolute path of a system program, looked for in the system's own directories and never in $PATH: a privileged
/// program must not run what a user's environment offers. The error names the Debian package that holds it.
[[nodiscard]] Result<std::string> find_system_program(std::string_view name, std::string_view debian_package);

/// Runs argv[0] (an absolute path), writes `input` to its standard input and waits. Its complaints are cut at 16 MiB; what
/// prints more than 64 MiB is killed, and the error says so, because nobody could tell a part from the whole. After `timeout` it is killed and the error says so. A non-zero exit status is no error here: the caller judges it.
/// Its environment is PATH and LC_ALL, and what `environment` adds ("NAME=value"). As soon as the descriptor `stop` is readable, it is killed as well.
[[nodiscard]] Result<ProcessOutput> run_process(std::span<const std::string> argv, std::string_view input,
                                                std::chrono::milliseconds timeout = std::chrono::seconds(10),
                                                std::span<const std::string> environment = {}, int stop = -1);

}  // namespace limpid
