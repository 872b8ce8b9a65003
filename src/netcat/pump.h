// One direction of a conversation: reads a piece from one descriptor and writes it to another. Decides nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "net/endpoint.h"

namespace limpid {

enum class PumpStep : std::uint8_t {
  moved,    ///< something was read or written
  blocked,  ///< nothing to do now
  ended,    ///< the source has ended
  failed,   ///< see Pump::error()
};

/// Holds at most one piece: it is written whole before the next one is read, so a datagram stays a datagram. The
/// descriptors are borrowed.
class Pump {
 public:
  struct Ends {
    int source = -1;
    int sink = -1;
    bool source_is_datagrams = false;  ///< reading nothing is an empty datagram then, not the end
    bool sink_is_datagrams = false;    ///< what one read yields is one datagram
    /// No more at a time. A blocking pipe that poll(2) calls writable takes PIPE_BUF bytes without blocking (pipe(7)).
    std::size_t write_limit_bytes = SIZE_MAX;
  };
  explicit Pump(const Ends& ends);

  /// Puts a piece before everything that has not been read yet.
  void put(std::span<const std::byte> piece);

  [[nodiscard]] bool wants_input() const noexcept { return !source_ended_ && !holds_piece() && waiting_.empty(); }
  [[nodiscard]] bool wants_output() const noexcept { return !sink_closed_ && (holds_piece() || !waiting_.empty()); }
  /// The source has ended (or is not wanted any more) and everything is written.
  [[nodiscard]] bool done() const noexcept { return source_ended_ && !wants_output(); }
  [[nodiscard]] int error() const noexcept { return error_; }

  [[nodiscard]] PumpStep fill();
  [[nodiscard]] PumpStep flush();
  void end_source() noexcept { source_ended_ = true; }
  /// The sink takes no more: what is held and what still comes is thrown away.
  void close_sink() noexcept { sink_closed_ = true; }

 private:
  [[nodiscard]] bool holds_piece() const noexcept { return !sink_closed_ && begin_ != end_; }

  Ends ends_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::deque<std::vector<std::byte>> waiting_;
  int error_ = 0;
  bool source_ended_ = false;
  bool sink_closed_ = false;
};

}  // namespace limpid
