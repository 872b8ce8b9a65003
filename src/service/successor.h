// Successor: the program, started anew, that is to take over from this process. The only place that knows how it is started and ended.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// The environment variable by which a successor finds the channel to its predecessor: the number of a descriptor.
inline constexpr const char* kHandoverVariable = "LIMPID_HANDOVER";

/// Likewise: where it finds the lock of lock_rules() (src/intercept/install.h), which passes over to it.
inline constexpr const char* kRulesLockVariable = "LIMPID_RULES_LOCK";

/// What is started, found out while the program's file still has its name.
struct SuccessorProgram {
  std::string path;  ///< of the file that this process was started from; another one may be there by now
  std::vector<std::string> arguments;  ///< its own, the first one included
  /// Of this process. A program that has been deleted without another in its place fails when it is started.
  [[nodiscard]] static Result<SuccessorProgram> of_this_process();
};

/// All that it gets. Borrowed; none of them may be one of the numbers up to 4, which they become.
struct SuccessorDescriptors {
  int channel = -1;  ///< to its predecessor
  int rules_lock = -1;
  std::array<int, 3> standard{-1, -1, -1};
};

/// Starts it with our environment, `variables` ("NAME=value") and the variables above. It is a child of ours until we end.
[[nodiscard]] Result<pid_t> start_successor(const SuccessorProgram& program, const SuccessorDescriptors& descriptors,
                                            const std::vector<std::string>& variables);

/// Of one that did not take over: ends it if it does not do so itself within `patience`, and waits for it. How it ended, in words.
[[nodiscard]] std::string end_successor(pid_t pid, std::chrono::milliseconds patience);

}  // namespace limpid
