// What the kernel knows of a connected TCP socket: what its handshake agreed on, and where its sequence numbers stand. Read by whoever
// means to take a connection away from its socket; nothing here sends anything, or changes how the connection goes on.
#pragma once

#include <cstdint>

#include "limpid/error.h"

namespace limpid {

/// What the handshake agreed on, and what may be sent in one segment. Out of TCP_INFO (tcp(7)).
struct TcpTraits {
  bool established = false;
  bool finished = false;  ///< the peer has sent its FIN, or the connection is gone
  bool timestamps = false;
  bool microseconds = false;  ///< of the timestamps' clock; otherwise milliseconds
  bool sack = false;
  bool ecn = false;
  std::uint8_t peer_scale = 0;   ///< of the peer's window field
  std::uint8_t our_scale = 0;    ///< of ours
  std::uint32_t advertised = 0;  ///< the largest segment that the peer was told to send, options included
  std::uint32_t segment = 0;     ///< the largest one that may be sent to the peer, without options
  std::uint64_t received = 0;    ///< bytes in order since the handshake
  std::uint32_t gaps = 0;        ///< segments that came out of order
};

[[nodiscard]] Result<TcpTraits> tcp_traits(int fd);

/// Where a connection stands: sequence numbers as they are on the wire.
struct TcpPosition {
  std::uint32_t written = 0;        ///< next byte that a write will be given
  std::uint32_t received = 0;       ///< next byte that the peer is expected to send (RCV.NXT)
  std::uint32_t read = 0;           ///< next byte that a read will return
  std::uint32_t announced_end = 0;  ///< end of the window that the peer was told of
  std::uint32_t allowed_end = 0;    ///< end of the window that the peer has told us of
  std::uint32_t clock = 0;          ///< what a timestamp that is sent now says (TSval); meant only with timestamps
};

/// What the kernel holds for a connection. A FIN counts as a byte where it is said.
struct TcpQueues {
  std::uint32_t unread = 0;          ///< SIOCINQ
  std::uint32_t unacknowledged = 0;  ///< SIOCOUTQ: sent or not; with the FIN
  std::uint32_t unsent = 0;          ///< SIOCOUTQNSD
  std::uint32_t receive_memory = 0;  ///< what all that has arrived occupies, also what came out of order
};

[[nodiscard]] TcpQueues tcp_queues(int fd) noexcept;

/// Reads the position by way of TCP_REPAIR, which is left again without a window probe: nobody hears of it. Needs CAP_NET_ADMIN. Whoever
/// calls must be the only one who uses the socket, and there must be nothing that is written and not sent yet: the kernel would take it
/// for sent if it happened to look at that moment (tcp_write_xmit in net/ipv4/tcp_output.c). `reuse_address`: what SO_REUSEADDR was,
/// which the kernel forgets at the end of a repair (do_tcp_setsockopt in net/ipv4/tcp.c).
/// Fails with ESHUTDOWN once the peer has sent its FIN.
[[nodiscard]] Result<TcpPosition> tcp_position(int fd, bool reuse_address);

/// Under repair, nothing that happens to the descriptor is heard by the peer: not close(2), and so not the end of this process either.
/// Acknowledgements and retransmissions go on; reading and writing fail meanwhile.
[[nodiscard]] Status begin_tcp_repair(int fd);
[[nodiscard]] Status end_tcp_repair(int fd, bool reuse_address);

/// From now on the end of the window that the peer was told of stays where it is while what has arrived is read (TCP_WINDOW_CLAMP, and
/// SO_BUF_LOCK, Linux 5.15, because the growth of the receive buffer would undo it). New packets may undo it, too.
void hold_tcp_window(int fd) noexcept;
void release_tcp_window(int fd) noexcept;

/// a is before b in a sequence space that wraps around at 4 GiB (RFC 9293, 3.4).
[[nodiscard]] constexpr bool sequence_before(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::int32_t>(a - b) < 0;
}

}  // namespace limpid
