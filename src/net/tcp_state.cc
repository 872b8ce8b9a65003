// TCP_INFO, TCP_REPAIR and its companions, and the ioctls of tcp(7).
//
// Theory of operation of a reading. The socket is put under repair (TCP_REPAIR = 1), which by itself changes nothing about what it sends
// or receives: only reads and writes fail, and closing it is silent. TCP_QUEUE_SEQ then answers for the queue that TCP_REPAIR_QUEUE names,
// TCP_REPAIR_WINDOW for both windows. TCP_REPAIR_OFF_NO_WP (-1) ends it; 0 would send a window probe. Packets arrive meanwhile, so what
// has arrived and what was read of it are asked for until two answers agree.
#include "net/tcp_state.h"

#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>

namespace limpid {
namespace {

constexpr unsigned kMicrosecondClock = 64;  // TCPI_OPT_USEC_TS, Linux 6.7
// enum in net/tcp_states.h.
constexpr unsigned kEstablished = 1;
constexpr unsigned kFinWait1 = 4;
constexpr unsigned kFinWait2 = 5;
constexpr int kBufferLock = 72;        // SO_BUF_LOCK (asm-generic/socket.h)
constexpr int kReceiveBufferLock = 2;  // SOCK_RCVBUF_LOCK
constexpr int kNoClamp = 1 << 30;      // the largest window of all (RFC 7323, 2.3)
/// A busy sender fits a packet between two system calls now and then, not ten times in a row.
constexpr int kAttempts = 10;

template <class Value>
bool read_option(int fd, int level, int name, Value& value) noexcept {
  socklen_t length = sizeof value;
  return getsockopt(fd, level, name, &value, &length) == 0;
}

bool write_option(int fd, int level, int name, int value) noexcept {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

std::uint32_t ask_queue(int fd, unsigned long request) noexcept {
  int bytes = 0;
  if (ioctl(fd, request, &bytes) != 0 || bytes < 0) return 0;
  return static_cast<std::uint32_t>(bytes);
}

/// The next sequence number of one queue, under repair.
bool read_sequence(int fd, int queue, std::uint32_t& number) noexcept {
  return write_option(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) && read_option(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, number);
}

bool read_position(int fd, TcpPosition& position) noexcept {
  if (!read_sequence(fd, TCP_SEND_QUEUE, position.written)) return false;
  for (int attempt = 0;; ++attempt) {
    if (attempt == kAttempts) {
      errno = EAGAIN;
      return false;
    }
    std::uint32_t again = 0;
    if (!read_sequence(fd, TCP_RECV_QUEUE, position.received)) return false;
    const std::uint32_t unread = ask_queue(fd, SIOCINQ);
    if (!read_option(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, again)) return false;
    position.read = position.received - unread;
    if (again == position.received) break;
  }
  // Before the window: if an acknowledgement comes in between, the end is underestimated, not overestimated.
  const std::uint32_t unacknowledged = ask_queue(fd, SIOCOUTQ);
  tcp_repair_window window{};
  if (!read_option(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, window)) return false;
  position.announced_end = window.rcv_wup + window.rcv_wnd;
  position.allowed_end = position.written - unacknowledged + window.snd_wnd;
  if (!read_option(fd, IPPROTO_TCP, TCP_TIMESTAMP, position.clock)) return false;
  // SIOCINQ leaves a FIN out, RCV.NXT does not (tcp_inq in include/net/tcp.h): with one, what was read would be one too many.
  const auto traits = tcp_traits(fd);
  if (traits && !traits->finished) return true;
  errno = ESHUTDOWN;
  return false;
}

}  // namespace

Result<TcpTraits> tcp_traits(int fd) {
  tcp_info info{};
  if (!read_option(fd, IPPROTO_TCP, TCP_INFO, info)) return system_error(errno, "read TCP_INFO", "");
  const unsigned state = info.tcpi_state;
  return TcpTraits{.established = state == kEstablished,
                   .finished = state != kEstablished && state != kFinWait1 && state != kFinWait2,
                   .timestamps = (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0,
                   .microseconds = (info.tcpi_options & kMicrosecondClock) != 0,
                   .sack = (info.tcpi_options & TCPI_OPT_SACK) != 0,
                   .ecn = (info.tcpi_options & TCPI_OPT_ECN) != 0,
                   .peer_scale = info.tcpi_snd_wscale,
                   .our_scale = info.tcpi_rcv_wscale,
                   .advertised = info.tcpi_advmss,
                   .segment = info.tcpi_snd_mss,
                   .received = info.tcpi_bytes_received,
                   .gaps = info.tcpi_rcv_ooopack};
}

TcpQueues tcp_queues(int fd) noexcept {
  std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
  if (!read_option(fd, SOL_SOCKET, SO_MEMINFO, memory)) memory = {};
  return {.unread = ask_queue(fd, SIOCINQ),
          .unacknowledged = ask_queue(fd, SIOCOUTQ),
          .unsent = ask_queue(fd, SIOCOUTQNSD),
          .receive_memory = memory[SK_MEMINFO_RMEM_ALLOC]};
}

Result<TcpPosition> tcp_position(int fd, bool reuse_address) {
  if (auto begun = begin_tcp_repair(fd); !begun) return std::unexpected(begun.error());
  TcpPosition position;
  const bool complete = read_position(fd, position);
  const int code = errno;
  if (auto ended = end_tcp_repair(fd, reuse_address); !ended) return std::unexpected(ended.error());
  if (!complete) return system_error(code, "read the sequence numbers of a socket", "");
  return position;
}

Status begin_tcp_repair(int fd) {
  if (write_option(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON)) return {};
  const int code = errno;
  return system_error(code, "set TCP_REPAIR", "", code == EPERM ? "needs CAP_NET_ADMIN: run it as root" : "");
}

Status end_tcp_repair(int fd, bool reuse_address) {
  if (!write_option(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP))
    return system_error(errno, "end TCP_REPAIR", "");
  if (reuse_address && !write_option(fd, SOL_SOCKET, SO_REUSEADDR, 1))
    return system_error(errno, "set SO_REUSEADDR", "");
  return {};
}

void hold_tcp_window(int fd) noexcept {
  write_option(fd, SOL_SOCKET, kBufferLock, kReceiveBufferLock);
  write_option(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 1);
}

void release_tcp_window(int fd) noexcept {
  write_option(fd, SOL_SOCKET, kBufferLock, 0);
  write_option(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, kNoClamp);
}

}  // namespace limpid
