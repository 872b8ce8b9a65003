// The moving of bytes. See pump.h for the theory of operation.
#include "relay/pump.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "relay/tls_legs.h"

namespace limpid {
namespace {

/// Per call: enough for two full rounds of either kind, small enough that a thousand busy flows share a worker evenly.
constexpr std::size_t kBudgetBytes = std::size_t{1} << 20U;
/// A read that brings less than this is a pause in the burst.
constexpr std::size_t kPauseBytes = 4096;

enum class Step : std::uint8_t { progress, blocked, failed, no_memory };

/// What one call of pump() has done.
struct Progress {
  std::size_t budget = kBudgetBytes;  ///< that is left
  bool waits_for_end = false;         ///< the sink's socket keeps the last bytes back, for our FIN
};

Step sink_error(Leg& sink) noexcept {
  if (errno == EINTR) return Step::progress;
  sink.writable = false;
  if (errno == EAGAIN) return Step::blocked;
  // The error is consumed by this call: a later read of that leg would see a plain end. Remember what it was.
  sink.reset = true;
  // What its peer sent before is still to be read, and no edge may come for it any more.
  sink.readable = true;
  sink.hangup = true;
  return Step::failed;
}

Step flush_held(Direction& direction, Leg& sink, PumpResources& resources) noexcept {
  while (direction.held_begin < direction.held_end) {
    const auto rest = direction.held.subspan(direction.held_begin, direction.held_end - direction.held_begin);
    const ssize_t written = send(sink.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (written < 0) {
      const Step step = sink_error(sink);
      if (step != Step::progress) return step;
      continue;
    }
    direction.held_begin += static_cast<std::uint32_t>(written);
    direction.bytes += static_cast<std::size_t>(written);
  }
  resources.buffers.release(direction.held);
  direction.held = {};
  direction.held_begin = direction.held_end = 0;
  return Step::progress;
}

Step flush_pipe(Direction& direction, Leg& sink, PumpResources& resources) noexcept {
  while (direction.piped > 0) {
    const ssize_t written = splice(direction.pipe.read_end.get(), nullptr, sink.fd.get(), nullptr, direction.piped,
                                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (written <= 0) {
      if (written == 0) errno = EPIPE;  // cannot happen while bytes are in the pipe; never loop on it
      const Step step = sink_error(sink);
      if (step != Step::progress) return step;
      continue;
    }
    direction.piped -= static_cast<std::uint32_t>(written);
    direction.bytes += static_cast<std::size_t>(written);
    resources.counters.add(Counter::spliced_bytes, static_cast<std::uint64_t>(written));
  }
  return Step::progress;
}

void return_pipe(Direction& direction, PumpResources& resources) noexcept {
  if (direction.pipe.valid() && direction.piped == 0) {
    resources.pipes.release(std::move(direction.pipe));
    direction.pipe = {};
  }
}

/// Books a read of `received` bytes (recv's or splice's result) that asked for `wanted`. True when bytes came.
bool book_read(Direction& direction, Leg& source, ssize_t received, std::size_t wanted) noexcept {
  if (received > 0) {
    const auto bytes = static_cast<std::size_t>(received);
    if (bytes < wanted && !source.hangup && !source.urgent) source.readable = false;
    if (bytes < kPauseBytes) {
      direction.burst = 0;
    } else {
      direction.burst = static_cast<std::uint32_t>(std::min(kSpliceAfterBytes, direction.burst + bytes));
    }
    return true;
  }
  if (received == 0) {
    // After a write to this leg failed, the kernel reports a reset as a plain end: the write has taken the error.
    direction.source_end = source.reset ? SourceEnd::failed : SourceEnd::finished;
  } else if (errno == EAGAIN) {
    source.readable = false;
  } else if (errno != EINTR) {
    source.reset = true;
    direction.source_end = SourceEnd::failed;
  }
  return false;
}

/// Keeps what the sink did not take. Without memory the flow cannot go on without losing bytes: it fails.
Step hold(Direction& direction, std::span<const std::byte> rest, PumpResources& resources) noexcept {
  direction.held = resources.buffers.acquire(rest.size());
  if (direction.held.empty()) return Step::no_memory;
  std::memcpy(direction.held.data(), rest.data(), rest.size());
  direction.held_begin = 0;
  direction.held_end = static_cast<std::uint32_t>(rest.size());
  return Step::blocked;
}

/// Whether the end of the source comes next, as far as is known: then what it sent last may go on in one segment with our FIN.
bool is_about_to_end(const Leg& source, std::size_t received, std::size_t wanted) noexcept {
  return source.hangup && received < wanted && !source.reset && !source.urgent && !source.encrypted;
}

/// Sends what still waits for more (MSG_MORE): by itself the kernel does so after 200 ms only.
void push(const Leg& sink) noexcept {
  const int on = 1;
  setsockopt(sink.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Step copy_round(Direction& direction, Leg& source, Leg& sink, PumpResources& resources, Progress& progress) noexcept {
  const auto buffer = resources.shared_buffer;
  const ssize_t received = recv(source.fd.get(), buffer.data(), buffer.size(), 0);
  if (!book_read(direction, source, received, buffer.size())) return Step::progress;
  auto rest = std::span<const std::byte>(buffer).first(static_cast<std::size_t>(received));
  if (resources.tap != nullptr) (*resources.tap)(rest);
  progress.budget -= std::min(progress.budget, rest.size());
  progress.waits_for_end = is_about_to_end(source, rest.size(), buffer.size());
  const int flags = progress.waits_for_end ? MSG_NOSIGNAL | MSG_MORE : MSG_NOSIGNAL;
  while (!rest.empty()) {
    const ssize_t written = send(sink.fd.get(), rest.data(), rest.size(), flags);
    if (written < 0) {
      const Step step = sink_error(sink);
      if (step == Step::failed) return step;
      if (step == Step::blocked) return hold(direction, rest, resources);
      continue;
    }
    direction.bytes += static_cast<std::size_t>(written);
    rest = rest.subspan(static_cast<std::size_t>(written));
  }
  return Step::progress;
}

Step splice_round(Direction& direction, Leg& source, Leg& sink, PumpResources& resources, Progress& progress) noexcept {
  // The pipe is empty here, so EAGAIN can only mean that the socket has nothing.
  const ssize_t received = splice(source.fd.get(), nullptr, direction.pipe.write_end.get(), nullptr,
                                  PipePool::kCapacityBytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  // At the mark of urgent data splice(2) says that there is nothing, or, behind a FIN, that this is the end. Only recv(2) knows.
  const bool nothing = received < 0 && errno == EAGAIN;
  if (received == 0 || (nothing && source.urgent)) {
    direction.burst = 0;
    return Step::progress;
  }
  // A pipe also fills up by its number of fragments: a short splice says nothing about what the socket still has.
  if (!book_read(direction, source, received, 0)) return Step::progress;
  direction.piped = static_cast<std::uint32_t>(received);
  progress.budget -= std::min(progress.budget, static_cast<std::size_t>(received));
  return flush_pipe(direction, sink, resources);
}

bool wants_splice(Direction& direction, PumpResources& resources) noexcept {
  if (direction.burst < kSpliceAfterBytes || resources.tap != nullptr) {
    return_pipe(direction, resources);
    return false;
  }
  if (!direction.pipe.valid()) direction.pipe = resources.pipes.acquire();
  return direction.pipe.valid();
}

PumpOutcome pass_on_end(Direction& direction, Leg& source, Leg& sink, PumpResources& resources) noexcept {
  direction.done = true;
  if (source.encrypted && resources.tls->is_broken(source.fd.get())) {
    source.reset = true;
    direction.source_end = SourceEnd::failed;
  }
  release(direction, resources);
  if (direction.source_end == SourceEnd::failed) return PumpOutcome::source_failed;
  // ENOTCONN only says that the sink is gone already; reading it will tell.
  shutdown(sink.fd.get(), SHUT_WR);
  return PumpOutcome::finished;
}

}  // namespace

PumpOutcome pump(Direction& direction, Leg& source, Leg& sink, PumpResources& resources) noexcept {
  Progress progress;
  PumpOutcome outcome = PumpOutcome::blocked;
  while (!direction.done) {
    Step step = Step::progress;
    if (!sink.writable && !sink.reset && (!direction.held.empty() || direction.piped > 0)) break;
    if (!direction.held.empty()) {
      step = flush_held(direction, sink, resources);
    } else if (direction.piped > 0) {
      step = flush_pipe(direction, sink, resources);
    } else if (direction.source_end != SourceEnd::none) {
      outcome = pass_on_end(direction, source, sink, resources);
      if (outcome == PumpOutcome::finished) progress.waits_for_end = false;
      break;
    } else if (!source.readable || !sink.writable) {
      break;
    } else if (progress.budget == 0) {
      outcome = PumpOutcome::budget_spent;
      break;
    } else if (wants_splice(direction, resources)) {
      step = splice_round(direction, source, sink, resources, progress);
    } else {
      step = copy_round(direction, source, sink, resources, progress);
    }
    if (step == Step::failed || step == Step::no_memory) {
      direction.done = true;
      release(direction, resources);
      return step == Step::failed ? PumpOutcome::sink_failed : PumpOutcome::no_memory;
    }
  }
  if (progress.waits_for_end) push(sink);
  // A flow that waits holds no pipe: thousands of idle flows share a handful.
  if (direction.piped == 0) return_pipe(direction, resources);
  return outcome;
}

void release(Direction& direction, PumpResources& resources) noexcept {
  if (!direction.held.empty()) resources.buffers.release(direction.held);
  direction.held = {};
  direction.held_begin = direction.held_end = 0;
  if (direction.pipe.valid()) {
    if (direction.piped == 0) {
      resources.pipes.release(std::move(direction.pipe));
    } else {
      resources.pipes.discard(std::move(direction.pipe));
    }
    direction.pipe = {};
  }
  direction.piped = 0;
}

}  // namespace limpid
