// Removes what a probe has put into the kernel when its process ends, however that ends: a child that waits for the
// parent's end. What belongs to a namespace or a descriptor (veth pairs, eBPF programs) ends by itself; this is for the rest.
#pragma once

#include <sys/types.h>

#include <functional>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid::doctor {

class Janitor {
 public:
  /// Forks. `clean` runs in the child once, when finish() is called or this process is gone; it must not need anything of
  /// the parent but what was there at the fork. The caller is single-threaded.
  [[nodiscard]] static Result<Janitor> start(const std::function<void()>& clean);
  Janitor(Janitor&& other) noexcept;
  Janitor& operator=(Janitor&&) = delete;
  Janitor(const Janitor&) = delete;
  Janitor& operator=(const Janitor&) = delete;
  ~Janitor();

  /// Returns once everything has been removed.
  void finish() noexcept;

 private:
  Janitor(pid_t child, UniqueFd lifeline) noexcept;
  pid_t child_;
  UniqueFd lifeline_;
};

}  // namespace limpid::doctor
