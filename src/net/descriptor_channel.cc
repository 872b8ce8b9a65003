// sendmsg(2) and recvmsg(2) with one control message. A packet comes whole or not at all, so there is nothing to be put together.
#include "net/descriptor_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace limpid {
namespace {

constexpr std::string_view kObject = "the channel to the other process";
/// Between two attempts where nothing tells when there is room: the peer takes descriptors out by the hundred.
constexpr int kPauseMs = 1;

/// Aligned as cmsg(3) asks for.
union ControlBuffer {
  cmsghdr header;
  std::array<std::byte, CMSG_SPACE(DescriptorChannel::kMostDescriptors * sizeof(int))> bytes;
};

int milliseconds_until(DescriptorChannel::Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
}

/// False: not in time.
bool await(int socket, short events, DescriptorChannel::Deadline deadline) {
  pollfd wanted{.fd = socket, .events = events, .revents = 0};
  int ready = 0;
  while ((ready = poll(&wanted, 1, milliseconds_until(deadline))) < 0 && errno == EINTR) {
  }
  return ready != 0;
}

void take_descriptors(msghdr& message, std::vector<UniqueFd>& into) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(each) + i * sizeof fd, sizeof fd);
      into.emplace_back(fd);
    }
  }
}

}  // namespace

Result<std::pair<DescriptorChannel, UniqueFd>> DescriptorChannel::open() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
    return system_error(errno, "make a socket pair", "");
  return std::pair{DescriptorChannel(UniqueFd(ends[0])), UniqueFd(ends[1])};
}

Result<DescriptorChannel> DescriptorChannel::adopt(UniqueFd socket, uid_t also) {
  int domain = 0;
  int type = 0;
  ucred peer{};
  socklen_t length = sizeof domain;
  const auto ask = [&](int option, void* value, socklen_t size) {
    length = size;
    return getsockopt(socket.get(), SOL_SOCKET, option, value, &length) == 0;
  };
  if (!ask(SO_DOMAIN, &domain, sizeof domain) || !ask(SO_TYPE, &type, sizeof type) || domain != AF_UNIX ||
      type != SOCK_SEQPACKET) {
    return failure("use", kObject, "the descriptor is no such socket");
  }
  if (!ask(SO_PEERCRED, &peer, sizeof peer) || (peer.uid != geteuid() && peer.uid != also))
    return failure("use", kObject, "it belongs to another user");
  const int flags = fcntl(socket.get(), F_GETFL);
  if (fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0 || flags < 0 ||
      fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return system_error(errno, "use", kObject);
  }
  return DescriptorChannel(std::move(socket));
}

Status DescriptorChannel::send(std::span<const std::byte> bytes, std::span<const int> descriptors,
                               Deadline deadline) const {
  if (bytes.empty() || bytes.size() > kMostBytes || descriptors.size() > kMostDescriptors)
    return system_error(EMSGSIZE, "write to", kObject);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): sendmsg(2) does not write to it
  iovec piece{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  for (;;) {
    if (sendmsg(socket_.get(), &message, MSG_NOSIGNAL) >= 0) return {};
    if (errno == EINTR) continue;
    const bool crowded = errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM;
    if (errno != EAGAIN && !crowded) return system_error(errno, "write to", kObject);
    if (std::chrono::steady_clock::now() >= deadline) return system_error(ETIMEDOUT, "write to", kObject);
    if (crowded) {
      poll(nullptr, 0, kPauseMs);
    } else if (!await(socket_.get(), POLLOUT, deadline)) {
      return system_error(ETIMEDOUT, "write to", kObject);
    }
  }
}

Result<DescriptorChannel::Packet> DescriptorChannel::receive(Deadline deadline) const {
  Packet packet;
  packet.bytes.resize(kMostBytes);
  ControlBuffer control{};
  for (;;) {
    iovec piece{.iov_base = packet.bytes.data(), .iov_len = packet.bytes.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = sizeof control.bytes;
    const ssize_t received = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (received > 0) {
      take_descriptors(message, packet.descriptors);
      // Descriptors that find no room are dropped by the kernel, and say so here (scm_detach_fds in net/core/scm.c).
      if ((message.msg_flags & MSG_CTRUNC) != 0)
        return system_error(EMFILE, "read from", kObject, "raise the limit of open files: ulimit -n, LimitNOFILE=");
      if ((message.msg_flags & MSG_TRUNC) != 0) return system_error(EMSGSIZE, "read from", kObject);
      packet.bytes.resize(static_cast<std::size_t>(received));
      return packet;
    }
    if (received == 0) return system_error(EPIPE, "read from", kObject);
    // A peer that closes without having read everything leaves this error, which the kernel reports once, before what the peer has sent last
    // (unix_release_sock in net/unix/af_unix.c, __skb_try_recv_datagram in net/core/datagram.c).
    if (errno == EINTR || errno == ECONNRESET) continue;
    if (errno != EAGAIN) return system_error(errno, "read from", kObject);
    if (!await(socket_.get(), POLLIN, deadline)) return system_error(ETIMEDOUT, "read from", kObject);
  }
}

}  // namespace limpid
