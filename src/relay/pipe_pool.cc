// Makes pipes, enlarges them once, and keeps them.
#include "relay/pipe_pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace limpid {

Pipe PipePool::acquire() noexcept {
  if (!free_.empty()) {
    Pipe pipe = std::move(free_.back());
    free_.pop_back();
    return pipe;
  }
  if (existing_ >= limit_) return {};
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return {};
  ++existing_;
  // May be refused over fs.pipe-user-pages-soft: a smaller pipe only makes shorter rounds.
  fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(kCapacityBytes));
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void PipePool::release(Pipe pipe) noexcept {
  if (free_.capacity() < limit_) free_.reserve(limit_);
  free_.push_back(std::move(pipe));
}

void PipePool::discard(Pipe pipe) noexcept {
  if (pipe.valid()) --existing_;
}

}  // namespace limpid
