// Raw sockets with our own IP headers: raw(7) for IPv4, IPV6_HDRINCL (kernel 4.5) for IPv6.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <vector>

#include "limpid/datagram.h"
#include "net/packet.h"

namespace limpid {
namespace {

/// The kernel fragments no packet with a header of ours (raw(7)). 1280 is what every IPv6 link carries, and IPv4 ones
/// do as well.
constexpr std::size_t kFragmentMtu = 1280;
#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36  // include/uapi/linux/in6.h; missing in glibc 2.36
#endif

std::uint32_t destination_of(const SocketAddress& to, sockaddr_storage& native) {
  // The port means nothing here; for IPv6 it must be zero (net/ipv6/raw.c).
  return SocketAddress{.address = to.address, .port = {}, .scope_id = to.scope_id}.to_native(native);
}

bool send_whole(int fd, std::span<const std::byte> packet, const SocketAddress& to) noexcept {
  sockaddr_storage native{};
  const auto length = destination_of(to, native);
  return sendto(fd, packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&native), length) >= 0;
}

/// 0, or the errno of a datagram that no header can describe.
int defect_of(const SpoofedDatagram& datagram, Family family) noexcept {
  if (datagram.from.family() != family || datagram.to.family() != family) return EAFNOSUPPORT;
  return datagram.payload.size() > (family == Family::ipv4 ? kMostUdpPayloadBytes : kMostUdpPayloadBytesIpv6) ? EMSGSIZE
                                                                                                              : 0;
}

}  // namespace

Result<RawSender> RawSender::open(Family family, std::uint32_t mark) {
  const bool ipv4 = family == Family::ipv4;
  UniqueFd fd(socket(ipv4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW));
  const std::string object = std::string(to_string(family)) + " raw socket";
  if (!fd.valid()) {
    return system_error(errno, "open", object, errno == EPERM ? "needs CAP_NET_RAW: run it as root" : "");
  }
  const int one = 1;
  // IPPROTO_RAW implies IP_HDRINCL for IPv4 only.
  if (!ipv4 && setsockopt(fd.get(), SOL_IPV6, IPV6_HDRINCL, &one, sizeof one) != 0) {
    return system_error(errno, "set IPV6_HDRINCL for", object);
  }
  if (mark != 0 && setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) {
    return system_error(errno, "set SO_MARK for", object);
  }
  // It only sends, but an IPPROTO_RAW socket of IPv6 could be handed packets: shut its receiving side.
  const int smallest = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest);
  return RawSender(std::move(fd), family);
}

std::size_t RawSender::send(std::span<const SpoofedDatagram> datagrams) noexcept {
  datagrams = datagrams.first(std::min(datagrams.size(), kBatch));
  std::array<std::array<std::byte, kMostUdpHeaderBytes>, kBatch> headers;
  std::array<std::array<iovec, 2>, kBatch> pieces;
  std::array<sockaddr_storage, kBatch> destinations;
  std::array<mmsghdr, kBatch> messages{};
  std::size_t count = 0;
  int defect = 0;
  for (const auto& datagram : datagrams) {
    defect = defect_of(datagram, family_);
    if (defect != 0) break;
    const std::size_t i = count++;
    const auto header = write_udp_headers(headers[i], datagram.from, datagram.to, datagram.payload, datagram.fields);
    pieces[i][0] = {.iov_base = header.data(), .iov_len = header.size()};
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): sendmmsg(2) only reads, but iovec serves both directions
    pieces[i][1] = {.iov_base = const_cast<std::byte*>(datagram.payload.data()), .iov_len = datagram.payload.size()};
    auto& message = messages[i].msg_hdr;
    message.msg_name = &destinations[i];
    message.msg_namelen = destination_of(datagram.to, destinations[i]);
    message.msg_iov = pieces[i].data();
    message.msg_iovlen = pieces[i].size();
  }
  std::size_t sent = 0;
  while (sent < count) {
    const int taken = sendmmsg(fd_.get(), &messages[sent], static_cast<unsigned>(count - sent), 0);
    if (taken > 0) {
      sent += static_cast<std::size_t>(taken);
    } else if (errno == EMSGSIZE) {
      if (!send_in_fragments(datagrams[sent])) return sent;
      ++sent;
    } else if (errno != EINTR) {
      return sent;
    }
  }
  if (defect != 0) errno = defect;
  return sent;
}

bool RawSender::send_packet(std::span<const std::byte> packet, const IpAddress& to) noexcept {
  return send_whole(fd_.get(), packet, {.address = to, .port = {}});
}

bool RawSender::send_in_fragments(const SpoofedDatagram& datagram) noexcept {
  try {
    std::vector<std::byte> packet(kMostUdpHeaderBytes + datagram.payload.size());
    const auto header = write_udp_headers(std::span(packet).first(kMostUdpHeaderBytes), datagram.from, datagram.to,
                                          datagram.payload, datagram.fields);
    std::ranges::copy(datagram.payload, packet.begin() + static_cast<std::ptrdiff_t>(header.size()));
    packet.resize(header.size() + datagram.payload.size());
    for (const auto& fragment : fragment_packet(packet, kFragmentMtu, identification_++)) {
      if (!send_whole(fd_.get(), fragment, datagram.to)) return false;
    }
    return true;
  } catch (const std::bad_alloc&) {
    errno = ENOMEM;
    return false;
  }
}

}  // namespace limpid
