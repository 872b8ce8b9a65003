// recvmmsg(2), sendmsg(2) and the control messages of ip(7), ipv6(7) and udp(7).
#include "limpid/datagram.h"

#include <linux/errqueue.h>
#include <linux/ipv6.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "limpid/transparent.h"
#include "net/packet.h"

namespace limpid {
namespace {

constexpr std::size_t kPayloadBytes = 65536;
constexpr std::size_t kControlBytes = 256;
/// UDP_MAX_SEGMENTS (include/linux/udp.h), and no GSO send may pass 64 KiB with its headers.
constexpr std::size_t kMostSegments = 64;
/// A burst that arrives while the worker does something else: 4 MiB, without regard to net.core.rmem_max where allowed.
constexpr int kReceiveBufferBytes = 4 << 20;

struct Option {
  int level;
  int name;
  int value;
  std::string_view text;
};

Status apply(int fd, std::span<const Option> options, const std::string& object) {
  for (const auto& option : options) {
    if (setsockopt(fd, option.level, option.name, &option.value, sizeof option.value) != 0) {
      const int code = errno;
      return system_error(code, "set " + std::string(option.text) + " for", object,
                          code == EPERM ? "needs CAP_NET_ADMIN: run it as root" : "");
    }
  }
  return {};
}

Result<UniqueFd> open_udp(Family family, const std::string& object) {
  UniqueFd fd(socket(family == Family::ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return system_error(errno, "open a UDP socket for", object);
  // Best effort: the forced variant needs CAP_NET_ADMIN.
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes, sizeof kReceiveBufferBytes) != 0) {
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof kReceiveBufferBytes);
  }
  return fd;
}

std::vector<Option> common_options(Family family) {
  if (family == Family::ipv4) {
    return {{SOL_IP, IP_RECVTOS, 1, "IP_RECVTOS"}, {SOL_IP, IP_RECVTTL, 1, "IP_RECVTTL"}};
  }
  return {{SOL_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY"},
          {SOL_IPV6, IPV6_RECVTCLASS, 1, "IPV6_RECVTCLASS"},
          {SOL_IPV6, IPV6_RECVHOPLIMIT, 1, "IPV6_RECVHOPLIMIT"}};
}

Option transparent_option(Family family) {
  if (family == Family::ipv4) return {SOL_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT"};
  return {SOL_IPV6, IPV6_TRANSPARENT, 1, "IPV6_TRANSPARENT"};
}

std::vector<Option> speaker_options(Family family) {
  auto options = common_options(family);
  // Fragmenting is what a relay must do with a datagram that fitted the other side: it cannot tell the client to send
  // less.
  if (family == Family::ipv4) {
    options.push_back({SOL_IP, IP_RECVERR, 1, "IP_RECVERR"});
    options.push_back({SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, "IP_MTU_DISCOVER"});
  } else {
    options.push_back({SOL_IPV6, IPV6_RECVERR, 1, "IPV6_RECVERR"});
    options.push_back({SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER"});
  }
  return options;
}

template <class Value>
Value control_value(const cmsghdr* control) {
  Value value{};
  std::memcpy(&value, CMSG_DATA(control), sizeof value);
  return value;
}

template <class Native>
std::optional<SocketAddress> control_address(const cmsghdr* control) {
  sockaddr_storage native{};
  std::memcpy(&native, CMSG_DATA(control), sizeof(Native));
  const auto address = SocketAddress::from_native(native);
  return address ? std::optional(*address) : std::nullopt;
}

void read_control(msghdr& message, ReceivedDatagram& datagram) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
    const int type = control->cmsg_type;
    if (control->cmsg_level == SOL_IP) {
      if (type == IP_ORIGDSTADDR) datagram.original_destination = control_address<sockaddr_in>(control);
      if (type == IP_PKTINFO)
        datagram.interface = static_cast<std::uint32_t>(control_value<in_pktinfo>(control).ipi_ifindex);
      if (type == IP_TOS) datagram.fields.traffic_class = control_value<std::uint8_t>(control);
      if (type == IP_TTL) datagram.fields.ttl = static_cast<std::uint8_t>(control_value<int>(control));
    } else if (control->cmsg_level == SOL_IPV6) {
      if (type == IPV6_ORIGDSTADDR) datagram.original_destination = control_address<sockaddr_in6>(control);
      if (type == IPV6_PKTINFO)
        datagram.interface = static_cast<std::uint32_t>(control_value<in6_pktinfo>(control).ipi6_ifindex);
      if (type == IPV6_TCLASS) datagram.fields.traffic_class = static_cast<std::uint8_t>(control_value<int>(control));
      if (type == IPV6_HOPLIMIT) datagram.fields.ttl = static_cast<std::uint8_t>(control_value<int>(control));
    }
  }
}

/// Who reported an error: the address behind the sock_extended_err (SO_EE_OFFENDER).
std::optional<IpAddress> offender(const cmsghdr* control) {
  sockaddr_storage native{};
  const std::size_t offset = sizeof(sock_extended_err);
  const std::size_t available = control->cmsg_len - CMSG_LEN(0);
  if (available <= offset) return std::nullopt;
  std::memcpy(&native, CMSG_DATA(control) + offset, std::min(available - offset, sizeof(sockaddr_in6)));
  const auto address = SocketAddress::from_native(native);
  return address ? std::optional(address->address) : std::nullopt;
}

void put_control(msghdr& message, std::size_t& used, int level, int type, const void* value, std::size_t size) {
  auto* control = reinterpret_cast<cmsghdr*>(static_cast<std::byte*>(message.msg_control) + used);
  control->cmsg_level = level;
  control->cmsg_type = type;
  control->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(control), value, size);
  used += CMSG_SPACE(size);
}

bool is_ipv4(int fd) {
  int domain = AF_INET;
  socklen_t length = sizeof domain;
  getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  return domain == AF_INET;
}

/// How many of the payloads one UDP_SEGMENT send can carry: equal sizes, the last may be shorter.
std::size_t segments_together(std::span<const std::span<const std::byte>> payloads) {
  std::size_t count = 1;
  std::size_t bytes = payloads[0].size();
  if (bytes == 0) return 1;
  while (count < std::min(payloads.size(), kMostSegments) && payloads[count].size() <= payloads[0].size() &&
         !payloads[count].empty() && bytes + payloads[count].size() <= kMostUdpPayloadBytes) {
    bytes += payloads[count].size();
    if (payloads[count++].size() < payloads[0].size()) break;
  }
  return count;
}

}  // namespace

Result<UniqueFd> listen_datagrams(const SocketAddress& local, const DatagramListenOptions& options) {
  const auto object = local.to_string();
  auto fd = open_udp(local.family(), object);
  if (!fd) return fd;
  auto wanted = common_options(local.family());
  wanted.push_back(transparent_option(local.family()));
  wanted.push_back(local.family() == Family::ipv4 ? Option{SOL_IP, IP_RECVORIGDSTADDR, 1, "IP_RECVORIGDSTADDR"}
                                                  : Option{SOL_IPV6, IPV6_RECVORIGDSTADDR, 1, "IPV6_RECVORIGDSTADDR"});
  wanted.push_back(local.family() == Family::ipv4 ? Option{SOL_IP, IP_PKTINFO, 1, "IP_PKTINFO"}
                                                  : Option{SOL_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO"});
  if (options.reuse_port) wanted.push_back({SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT"});
  if (options.mark != 0) wanted.push_back({SOL_SOCKET, SO_MARK, static_cast<int>(options.mark), "SO_MARK"});
  if (auto applied = apply(fd->get(), wanted, object); !applied) return std::unexpected(applied.error());
  sockaddr_storage native{};
  const auto length = local.to_native(native);
  if (bind(fd->get(), reinterpret_cast<const sockaddr*>(&native), length) != 0) {
    return system_error(errno, "bind UDP", object);
  }
  return fd;
}

Result<UniqueFd> open_datagram_socket(const DatagramSocketOptions& options) {
  const std::string object = options.source ? options.source->to_string() : "a UDP target";
  const Family family = options.source ? options.source->family()
                        : options.peer ? options.peer->family()
                                       : options.family;
  auto fd = open_udp(family, object);
  if (!fd) return fd;
  auto wanted = speaker_options(family);
  if (options.mark != 0) wanted.push_back({SOL_SOCKET, SO_MARK, static_cast<int>(options.mark), "SO_MARK"});
  if (options.source) {
    wanted.push_back(transparent_option(family));
    // A local server on the wildcard address with the same port is no obstacle to speaking as somebody else, if it permits
    // sharing too. Never where the kernel chooses the port: to sockets that permit sharing it gives one port twice
    // (udp_lib_lport_inuse, net/ipv4/udp.c), and one of them hears nothing.
    if (options.source->port.value != 0) wanted.push_back({SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"});
  }
  if (auto applied = apply(fd->get(), wanted, object); !applied) return std::unexpected(applied.error());
  if (!options.interface.empty() && setsockopt(fd->get(), SOL_SOCKET, SO_BINDTODEVICE, options.interface.data(),
                                               static_cast<socklen_t>(options.interface.size())) != 0) {
    return system_error(errno, "bind to interface", options.interface);
  }
  sockaddr_storage native{};
  if (options.source) {
    const auto length = options.source->to_native(native);
    if (bind(fd->get(), reinterpret_cast<const sockaddr*>(&native), length) != 0) {
      return system_error(errno, "bind UDP", object);
    }
    // But another leg with this address and port would take this one's answers, or the reverse: to one that comes later, it
    // is taken (udp_lib_lport_inuse in net/ipv4/udp.c asks both sockets).
    const int exclusive = 0;
    setsockopt(fd->get(), SOL_SOCKET, SO_REUSEADDR, &exclusive, sizeof exclusive);
  }
  if (options.peer) {
    const auto length = options.peer->to_native(native);
    if (connect(fd->get(), reinterpret_cast<const sockaddr*>(&native), length) != 0) {
      return system_error(errno, "connect UDP to", options.peer->to_string());
    }
  }
  return fd;
}

struct DatagramBatch::Memory {
  std::array<std::array<std::byte, kPayloadBytes>, kMost> payloads;
  alignas(cmsghdr) std::array<std::array<std::byte, kControlBytes>, kMost> controls;
  std::array<sockaddr_storage, kMost> peers;
  std::array<iovec, kMost> pieces;
  std::array<mmsghdr, kMost> messages;

  void prepare(std::size_t i) {
    pieces[i] = {.iov_base = payloads[i].data(), .iov_len = payloads[i].size()};
    auto& message = messages[i].msg_hdr;
    message = {};
    message.msg_name = &peers[i];
    message.msg_namelen = sizeof peers[i];
    message.msg_iov = &pieces[i];
    message.msg_iovlen = 1;
    message.msg_control = controls[i].data();
    message.msg_controllen = controls[i].size();
  }
};

// Not zeroed: the kernel maps the pages as they are first used, so a quiet relay pays for few of them.
DatagramBatch::DatagramBatch() : memory_(std::make_unique_for_overwrite<Memory>()) {}
DatagramBatch::~DatagramBatch() = default;

std::span<const ReceivedDatagram> DatagramBatch::receive(int fd, std::size_t most) noexcept {
  most = std::min(most, kMost);
  for (std::size_t i = 0; i < most; ++i) memory_->prepare(i);
  int count = -1;
  // A pending ICMP error is reported, and consumed, by the next call of any kind; the datagrams behind it are still
  // there.
  for (int attempt = 0; attempt < 3 && count < 0; ++attempt) {
    count = recvmmsg(fd, memory_->messages.data(), static_cast<unsigned>(most), MSG_DONTWAIT, nullptr);
    if (count < 0 && errno == EAGAIN) break;
  }
  std::size_t used = 0;
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const auto peer = SocketAddress::from_native(memory_->peers[at]);
    if (!peer) continue;
    auto& datagram = received_[used++];
    datagram = {.peer = *peer,
                .original_destination = std::nullopt,
                .payload = std::span(memory_->payloads[at]).first(memory_->messages[at].msg_len),
                .fields = {},
                .interface = 0};
    read_control(memory_->messages[at].msg_hdr, datagram);
  }
  return std::span(received_).first(used);
}

std::optional<ReceivedIcmp> DatagramBatch::receive_error(int fd) noexcept {
  for (;;) {
    memory_->prepare(0);
    auto& message = memory_->messages[0].msg_hdr;
    const ssize_t count = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (count < 0) return std::nullopt;
    const auto about = SocketAddress::from_native(memory_->peers[0]);
    if (!about) continue;
    for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
      const bool is_error = (control->cmsg_level == SOL_IP && control->cmsg_type == IP_RECVERR) ||
                            (control->cmsg_level == SOL_IPV6 && control->cmsg_type == IPV6_RECVERR);
      if (!is_error) continue;
      const auto error = control_value<sock_extended_err>(control);
      if (error.ee_origin != SO_EE_ORIGIN_ICMP && error.ee_origin != SO_EE_ORIGIN_ICMP6) continue;
      return ReceivedIcmp{.about = *about,
                          .reporter = offender(control),
                          .error = {.type = error.ee_type, .code = error.ee_code, .rest = error.ee_info},
                          .payload = std::span(memory_->payloads[0]).first(static_cast<std::size_t>(count))};
    }
  }
}

std::size_t send_datagrams(int fd, const std::optional<SocketAddress>& to, const HopFields& fields,
                           std::span<const std::span<const std::byte>> payloads) noexcept {
  const bool ipv4 = is_ipv4(fd);
  sockaddr_storage native{};
  const auto length = to ? to->to_native(native) : 0U;
  std::array<iovec, kMostSegments> pieces;
  std::size_t sent = 0;
  bool may_segment = true;
  while (sent < payloads.size()) {
    const auto rest = payloads.subspan(sent);
    const std::size_t together = may_segment ? segments_together(rest) : 1;
    for (std::size_t i = 0; i < together; ++i) {
      // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): sendmsg(2) only reads, but iovec serves both directions
      pieces[i] = {.iov_base = const_cast<std::byte*>(rest[i].data()), .iov_len = rest[i].size()};
    }
    alignas(cmsghdr) std::array<std::byte, 3 * CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_name = to ? &native : nullptr;
    message.msg_namelen = length;
    message.msg_iov = pieces.data();
    message.msg_iovlen = together;
    message.msg_control = control.data();
    std::size_t used = 0;
    const int ttl = fields.ttl;
    const int traffic_class = fields.traffic_class;
    put_control(message, used, ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_TTL : IPV6_HOPLIMIT, &ttl, sizeof ttl);
    put_control(message, used, ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, &traffic_class,
                sizeof traffic_class);
    if (together > 1) {
      const auto segment = static_cast<std::uint16_t>(rest[0].size());
      put_control(message, used, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment);
    }
    message.msg_controllen = used;
    if (sendmsg(fd, &message, 0) >= 0) {
      sent += together;
    } else if (together > 1 && (errno == EMSGSIZE || errno == EINVAL || errno == EIO)) {
      may_segment =
          false;  // segments larger than the way's MTU, or no checksum offload: one by one, the kernel fragments
    } else if (errno == ECONNREFUSED || errno == EHOSTUNREACH || errno == ENETUNREACH || errno == EINTR) {
      // An ICMP error of an earlier datagram, consumed by this call; the error queue has it too. Once more, but not for
      // ever.
      if (sendmsg(fd, &message, 0) < 0) return sent;
      sent += together;
    } else {
      return sent;
    }
  }
  return sent;
}

}  // namespace limpid
