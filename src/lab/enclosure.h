// Runs something so that nothing of it can outlive it: in PID and mount namespaces of its own.
#pragma once

#include <functional>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// What the first process of an enclosure has: PID 1 of its PID namespace, with a /proc of its own.
class Enclosure {
 public:
  /// Forks the process that everything is about and runs `main` in it, reaps every orphan meanwhile, passes signals on,
  /// and returns the exit status of `main` (128 + signal when a signal ended it).
  [[nodiscard]] Result<int> supervise(const std::function<int()>& main) const;

 private:
  friend Result<int> run_enclosed(const std::function<int(const Enclosure&)>& first,
                                  const std::function<int(const Error&)>& report);
  explicit Enclosure(UniqueFd notices, bool leads_terminal) noexcept;

  UniqueFd notices_;     ///< to the caller
  bool leads_terminal_;  ///< its process group is the terminal's foreground
};

/// Forks a process that is the first one of new PID and mount namespaces, runs `first` in it, waits, and returns its
/// exit status. When it ends, the kernel kills whatever it started; and it is killed when the caller ends, however that
/// ends. `report` is called in the new process when that cannot be made ready; its result is the exit status then.
///
/// The calling process must be single-threaded and needs CAP_SYS_ADMIN; without it, it becomes root in a user namespace
/// and stays there. It cannot fork again afterwards: its children would be born into a namespace that has ended.
///
/// While waiting it passes SIGTERM, SIGHUP, SIGINT and SIGQUIT on. `first` runs with those and SIGCHLD blocked, so that
/// none is lost before Enclosure::supervise() takes them. On a terminal ^C, ^\ and ^Z act on `main` as if it had been
/// started directly, and so does an interactive shell with job control.
[[nodiscard]] Result<int> run_enclosed(const std::function<int(const Enclosure&)>& first,
                                       const std::function<int(const Error&)>& report);

}  // namespace limpid
