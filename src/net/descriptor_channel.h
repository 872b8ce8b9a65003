// DescriptorChannel: packets with file descriptors between two processes on this host, in order, none lost (unix(7): SOCK_SEQPACKET, SCM_RIGHTS). For a program
// that hands its sockets over to its successor. Knows nothing of what they mean.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Non-blocking and close-on-exec; waits by itself, for as long as its caller says. One thread.
class DescriptorChannel {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  /// Of one packet. Less than half of what a socket's buffer holds (net.core.wmem_default), so that the next one is written while this one is read.
  static constexpr std::size_t kMostBytes = std::size_t{96} << 10U;
  /// SCM_MAX_FD is 253 (include/net/scm.h).
  static constexpr std::size_t kMostDescriptors = 250;

  struct Packet {
    std::vector<std::byte> bytes;
    std::vector<UniqueFd> descriptors;  ///< close-on-exec
  };

  /// Ours, and the other end, for a process that is started with it.
  [[nodiscard]] static Result<std::pair<DescriptorChannel, UniqueFd>> open();
  /// The other end, in that process. Refuses what is no such socket, and a peer of another user than ours, or `also`.
  [[nodiscard]] static Result<DescriptorChannel> adopt(UniqueFd socket, uid_t also = geteuid());

  /// `descriptors` are borrowed; the peer gets copies. Error::code: EPIPE or ECONNRESET where nobody reads any more, ETIMEDOUT. Of too many descriptors under way
  /// (ETOOMANYREFS, unix(7)) it waits until the peer has taken some.
  [[nodiscard]] Status send(std::span<const std::byte> bytes, std::span<const int> descriptors,
                            Deadline deadline) const;
  /// The next packet. Error::code: EPIPE where there is none any more: whatever the peer has sent before its end comes first, also if it had
  /// not read everything itself. ETIMEDOUT. EMFILE where not all of its descriptors found room.
  [[nodiscard]] Result<Packet> receive(Deadline deadline) const;

  /// Readable when there is a packet, or nobody at the other end. Borrowed.
  [[nodiscard]] int descriptor() const noexcept { return socket_.get(); }
  [[nodiscard]] bool valid() const noexcept { return socket_.valid(); }
  void close() noexcept { socket_.reset(); }

 private:
  explicit DescriptorChannel(UniqueFd socket) noexcept : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace limpid
