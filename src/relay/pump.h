// Pump: moves the bytes of one direction of a TCP flow from one leg to the other.
//
// Theory of operation. A direction first copies through the worker's shared buffer: cheapest for small messages. After
// kSpliceAfterBytes without a small read it is bulk, and goes on with splice(2) through a borrowed pipe, which goes
// back whenever the source has nothing. Bytes that the sink does not take are held (in a pooled buffer or in the pipe)
// and nothing more is read until they are gone: that bounds a direction to BufferPool::kLargestBytes or
// PipePool::kCapacityBytes, whichever it uses. epoll is edge-triggered: `readable` and `writable` are our memory of the
// last edge and only EAGAIN, or a read that came up short, takes them back. A short read counts only while no hang-up
// was reported: behind a FIN or RST no further edge comes, so the leg must then be read to its end; nor once urgent data was seen, at whose mark every read stops (tcp_recvmsg, tcp_read_sock).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "limpid/unique_fd.h"
#include "relay/buffer_pool.h"
#include "relay/counters.h"
#include "relay/pipe_pool.h"

namespace limpid {

class TlsLegs;

/// One of the two sockets of a flow and what epoll last said of it.
struct Leg {
  UniqueFd fd;
  bool readable = false;
  bool writable = false;
  bool hangup = false;     ///< EPOLLRDHUP, EPOLLHUP or EPOLLERR was seen
  bool urgent = false;     ///< TCP urgent data was seen: reads stop at its mark, so a short one says nothing any more
  bool reset = false;      ///< its connection is gone: RST, or a time-out of the kernel's
  bool encrypted = false;  ///< `fd` is the plain end of one in TlsLegs
};

/// How the source of a direction came to its end.
enum class SourceEnd : std::uint8_t { none, finished, failed };

struct Direction {
  std::uint64_t bytes = 0;       ///< taken by the sink
  std::span<std::byte> held;     ///< a pooled buffer, empty when there is none
  std::uint32_t held_begin = 0;  ///< what of `held` is still to be written
  std::uint32_t held_end = 0;
  Pipe pipe;                ///< borrowed during a burst
  std::uint32_t piped = 0;  ///< bytes in the pipe
  std::uint32_t burst = 0;  ///< bytes since the last small read, capped
  SourceEnd source_end = SourceEnd::none;
  bool done = false;  ///< its end was passed on, or its sink is gone
};

/// Sees the bytes of a direction as they are taken from its source, and changes nothing. Must not throw.
using ByteTap = std::function<void(std::span<const std::byte>)>;

/// What the pumps of one worker share.
struct PumpResources {
  std::span<std::byte> shared_buffer;  ///< BufferPool::kLargestBytes long
  BufferPool& buffers;
  PipePool& pipes;
  Counters& counters;
  const TlsLegs* tls = nullptr;  ///< of legs that are `encrypted`
  const ByteTap* tap = nullptr;  ///< for the direction that is pumped next; then all of it is copied. nullptr: none
};

enum class PumpOutcome : std::uint8_t {
  blocked,        ///< nothing more can be done until the next edge
  budget_spent,   ///< there is more; others must have their turn first
  finished,       ///< the source finished and the sink was told so (FIN)
  source_failed,  ///< the source was reset; everything it sent before has been given to the sink's socket
  sink_failed,    ///< the sink was reset; what it had not taken is lost
  no_memory,      ///< bytes could not be held: the flow cannot go on without losing some
};

/// Moves bytes until one of the outcomes. Never blocks.
[[nodiscard]] PumpOutcome pump(Direction& direction, Leg& source, Leg& sink, PumpResources& resources) noexcept;

/// Gives back what the direction borrowed; bytes in it are lost.
void release(Direction& direction, PumpResources& resources) noexcept;

inline constexpr std::size_t kSpliceAfterBytes = std::size_t{256} << 10U;

}  // namespace limpid
