// Pipes for splice(2). A flow borrows one while a burst runs through it and gives it back empty. One pool per worker,
// no locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "limpid/unique_fd.h"

namespace limpid {

/// An empty Pipe has no descriptors.
struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
  [[nodiscard]] bool valid() const noexcept { return read_end.valid(); }
};

class PipePool {
 public:
  /// At most `limit` pipes exist at one time, lent or kept.
  explicit PipePool(std::size_t limit) noexcept : limit_(limit) {}

  /// A pipe, or an empty one when the limit is reached or the kernel refuses: the flow then goes on copying.
  [[nodiscard]] Pipe acquire() noexcept;
  /// Takes an empty pipe back for reuse.
  void release(Pipe pipe) noexcept;
  /// One that somebody else has made is lent out from now on, as if it came from here; also past the limit.
  void adopt() noexcept { ++existing_; }
  /// Closes a pipe that still holds bytes of a flow that failed: they must never reach another flow.
  void discard(Pipe pipe) noexcept;

  /// What a pipe holds at most. 512 KiB: 64 KiB is 10 % slower in bulk, more than 1 MiB needs CAP_SYS_RESOURCE
  /// (pipe(7)).
  static constexpr std::size_t kCapacityBytes = std::size_t{512} << 10U;

 private:
  std::size_t limit_;
  std::size_t existing_ = 0;
  std::vector<Pipe> free_;
};

}  // namespace limpid
