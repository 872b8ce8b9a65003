// Reads and writes with read(2) and write(2), which serve sockets, pipes, files and terminals alike; SIGPIPE is ignored
// by the program, so a reader that has gone is an error here.
#include "netcat/pump.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace limpid {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{64} << 10U;
/// The most that a UDP datagram over IPv4 can hold: 65535 less 20 bytes of IP header and 8 of UDP header.
constexpr std::size_t kDatagramBytes = 65507;

bool is_transient(int code) {
  return code == EAGAIN || code == EWOULDBLOCK || code == EINTR;
}

}  // namespace

Pump::Pump(const Ends& ends) : ends_(ends), buffer_(ends.sink_is_datagrams ? kDatagramBytes : kPieceBytes) {
  if (ends.source < 0) source_ended_ = true;
}

void Pump::put(std::span<const std::byte> piece) {
  if (!piece.empty()) waiting_.emplace_back(piece.begin(), piece.end());
}

PumpStep Pump::fill() {
  const ssize_t count = read(ends_.source, buffer_.data(), buffer_.size());
  if (count < 0) {
    if (is_transient(errno)) return PumpStep::blocked;
    error_ = errno;
    return PumpStep::failed;
  }
  if (count == 0) {
    if (ends_.source_is_datagrams) return PumpStep::moved;
    source_ended_ = true;
    return PumpStep::ended;
  }
  begin_ = 0;
  end_ = static_cast<std::size_t>(count);
  return PumpStep::moved;
}

PumpStep Pump::flush() {
  if (begin_ == end_ && !waiting_.empty()) {
    buffer_.resize(std::max(buffer_.size(), waiting_.front().size()));
    std::ranges::copy(waiting_.front(), buffer_.begin());
    begin_ = 0;
    end_ = waiting_.front().size();
    waiting_.pop_front();
  }
  if (begin_ == end_) return PumpStep::blocked;
  const std::size_t most = std::min(end_ - begin_, ends_.write_limit_bytes);
  const ssize_t count = write(ends_.sink, buffer_.data() + begin_, most);
  if (count < 0) {
    if (is_transient(errno)) return PumpStep::blocked;
    error_ = errno;
    return PumpStep::failed;
  }
  begin_ += static_cast<std::size_t>(count);
  return PumpStep::moved;
}

}  // namespace limpid
