// A program that a conversation is held with: started without a shell, its standard input and output are pipes.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "limpid/error.h"
#include "netcat/session.h"

namespace limpid {

/// Owns the process: somebody must have waited for it before it goes. Its standard error is ours.
class Program {
 public:
  struct Started;
  /// Looks argv[0] up in $PATH, as the user's shell would. `variables` are added to our environment.
  [[nodiscard]] static Result<Started> start(const std::vector<std::string>& argv,
                                             const std::vector<std::pair<std::string, std::string>>& variables);

  /// Its exit status, 128 + the signal's number if one ended it; empty while it runs.
  [[nodiscard]] std::optional<int> poll();
  [[nodiscard]] int wait();

 private:
  explicit Program(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

struct Program::Started {
  Program program;
  LocalSide side;
};

}  // namespace limpid
