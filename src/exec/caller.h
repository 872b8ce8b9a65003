// The thread whose call is being looked at: its descriptors and its memory. Used by the supervisor between a
// notification and its answer; the thread may die at any moment, so the supervisor asks afterwards whether it was still
// the right one.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

class Caller {
 public:
  /// `thread` is a thread id. The error code is ESRCH when it has gone.
  [[nodiscard]] static Result<Caller> open(pid_t thread);

  /// The same open file under a descriptor of ours (pidfd_getfd(2)). The error code is EBADF when the program has none
  /// of that number, EPERM when we may not: that takes what ptrace(2) takes.
  [[nodiscard]] Result<UniqueFd> borrow(int descriptor) const;

  /// Copies from the program's memory and returns how many bytes could be read, up to the first hole.
  [[nodiscard]] std::size_t read(std::uint64_t address, std::span<std::byte> into) const noexcept;

  /// Becomes readable when the thread has ended.
  [[nodiscard]] const UniqueFd& descriptor() const noexcept { return descriptor_; }

 private:
  Caller(pid_t thread, UniqueFd descriptor) noexcept : thread_(thread), descriptor_(std::move(descriptor)) {}

  pid_t thread_;
  UniqueFd descriptor_;  // a pidfd
};

}  // namespace limpid
