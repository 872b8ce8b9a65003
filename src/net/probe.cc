// Two ways to make a packet that is real in every respect but one: nobody sent it.
//
// An arriving one goes through BPF_PROG_TEST_RUN of an XDP program that lets everything pass, with live frames
// (Documentation/bpf/bpf_prog_run.rst): the kernel takes the frame for one of the given interface's. Nothing is attached to it.
// A local one comes out of an ordinary socket. Its owner is the thread's file system user at the moment it is made: that is what
// `meta skuid` and iptables' owner match see (nft_meta_get_eval_skugid), and what `ip rule uidrange` compares (sock_alloc_inode).
#include "net/probe.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

namespace limpid {
namespace {

#ifndef BPF_F_TEST_XDP_LIVE_FRAMES
#define BPF_F_TEST_XDP_LIVE_FRAMES (1U << 1)
#endif

constexpr std::array<std::uint8_t, ETH_ALEN> kProbeSender = {0x02, 'l', 'i', 'm', 'p', 'd'};  // locally administered

Result<std::array<std::uint8_t, ETH_ALEN>> hardware_address(const std::string& interface) {
  const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!any.valid()) return system_error(errno, "open", "socket");
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  if (ioctl(any.get(), SIOCGIFFLAGS, &request) != 0) {
    return system_error(errno, "find interface", interface, "`ip link` lists them");
  }
  if ((request.ifr_flags & IFF_UP) == 0) {
    return failure("arrive at interface", interface, "it is down, so nothing arrives there",
                   "ip link set " + interface + " up");
  }
  if (ioctl(any.get(), SIOCGIFHWADDR, &request) != 0) return system_error(errno, "read address of", interface);
  std::array<std::uint8_t, ETH_ALEN> address{};
  // An interface without addresses (a tunnel) has zeros, which its packets then carry.
  if (request.ifr_hwaddr.sa_family == ARPHRD_ETHER) {
    std::memcpy(address.data(), request.ifr_hwaddr.sa_data, address.size());
  }
  return address;
}

long bpf(int command, bpf_attr& attributes) {
  return syscall(SYS_bpf, command, &attributes, sizeof attributes);
}

std::uint64_t pointer(const void* to) {
  return reinterpret_cast<std::uintptr_t>(to);
}

/// r0 = XDP_PASS; exit.
Result<UniqueFd> load_passing_program() {
  std::array<bpf_insn, 2> program{};
  program[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
  program[0].imm = XDP_PASS;
  program[1].code = BPF_JMP | BPF_EXIT;
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_XDP;
  attributes.insn_cnt = program.size();
  attributes.insns = pointer(program.data());
  attributes.license = pointer("Apache-2.0");
  const auto fd = bpf(BPF_PROG_LOAD, attributes);
  if (fd < 0) {
    return system_error(errno, "load", "an XDP program for the probe",
                        "needs CAP_BPF and CAP_NET_ADMIN on the host itself: run as root, not in a user namespace");
  }
  return UniqueFd(static_cast<int>(fd));
}

/// For the life of this object the thread makes files and sockets as somebody else.
class BorrowedIdentity {
 public:
  BorrowedIdentity(std::optional<std::uint32_t> user, std::optional<std::uint32_t> group) {
    if (group) group_ = setfsgid(*group);
    if (user) user_ = setfsuid(*user);
    // setfsuid(2) reports no failure: asking with a number that nobody can have tells what is.
    taken_ = (!user || setfsuid(static_cast<uid_t>(-1)) == static_cast<int>(*user)) &&
             (!group || setfsgid(static_cast<gid_t>(-1)) == static_cast<int>(*group));
  }
  BorrowedIdentity(const BorrowedIdentity&) = delete;
  BorrowedIdentity& operator=(const BorrowedIdentity&) = delete;
  BorrowedIdentity(BorrowedIdentity&&) = delete;
  BorrowedIdentity& operator=(BorrowedIdentity&&) = delete;
  ~BorrowedIdentity() {
    if (user_) setfsuid(static_cast<uid_t>(*user_));
    if (group_) setfsgid(static_cast<gid_t>(*group_));
  }
  [[nodiscard]] bool taken() const noexcept { return taken_; }

 private:
  std::optional<int> user_;
  std::optional<int> group_;
  bool taken_ = false;
};

/// The kernel chooses no sequence number for a socket that has one (tcp_v4_connect: `if (!tp->write_seq)`).
bool set_sequence(int fd, std::uint32_t sequence) {
  const int on = TCP_REPAIR_ON;
  const int off = TCP_REPAIR_OFF_NO_WP;
  const int queue = TCP_SEND_QUEUE;
  return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) == 0 &&
         setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue) == 0 &&
         setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence, sizeof sequence) == 0 &&
         setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off) == 0;
}

}  // namespace

Result<std::vector<std::byte>> frame_for(const std::string& interface, std::span<const std::byte> packet) {
  const auto address = hardware_address(interface);
  if (!address) return std::unexpected(address.error());
  const bool ipv6 = !packet.empty() && (std::to_integer<unsigned>(packet[0]) >> 4U) == 6;
  const std::uint16_t type = htons(ipv6 ? ETH_P_IPV6 : ETH_P_IP);
  std::vector<std::byte> frame(ETH_HLEN + packet.size());
  std::memcpy(frame.data(), address->data(), ETH_ALEN);
  std::memcpy(&frame[ETH_ALEN], kProbeSender.data(), ETH_ALEN);
  std::memcpy(&frame[std::size_t{2} * ETH_ALEN], &type, sizeof type);
  std::ranges::copy(packet, frame.begin() + ETH_HLEN);
  return frame;
}

Status inject_packet(const std::string& interface, std::span<const std::byte> packet) {
  const auto program = load_passing_program();
  if (!program) return std::unexpected(program.error());
  auto framed = frame_for(interface, packet);
  if (!framed) return std::unexpected(framed.error());
  std::vector<std::byte>& frame = *framed;
  xdp_md context{};
  context.data_end = static_cast<std::uint32_t>(frame.size());
  context.ingress_ifindex = if_nametoindex(interface.c_str());
  bpf_attr attributes{};
  attributes.test.prog_fd = static_cast<std::uint32_t>(program->get());
  attributes.test.data_in = pointer(frame.data());
  attributes.test.data_size_in = static_cast<std::uint32_t>(frame.size());
  attributes.test.ctx_in = pointer(&context);
  attributes.test.ctx_size_in = sizeof context;
  attributes.test.repeat = 1;
  attributes.test.batch_size = 1;
  attributes.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  if (bpf(BPF_PROG_TEST_RUN, attributes) < 0) {
    return system_error(
        errno, "let a probe arrive at", interface,
        errno == EINVAL || errno == EOPNOTSUPP ? "needs kernel 5.18 or newer (BPF_F_TEST_XDP_LIVE_FRAMES)" : "");
  }
  return {};
}

Result<LocalProbeSocket> open_local_probe(const LocalProbe& probe, std::uint32_t sequence) {
  const bool tcp = probe.transport == Transport::tcp;
  const Family family = probe.destination.family();
  UniqueFd fd;
  {
    const BorrowedIdentity identity(probe.user, probe.group);
    if (!identity.taken()) {
      return system_error(EPERM, "open a socket as", "another user", "needs CAP_SETUID and CAP_SETGID: run as root");
    }
    fd = UniqueFd(socket(family == Family::ipv4 ? AF_INET : AF_INET6,
                         (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  if (!fd.valid()) return system_error(errno, "open", "socket");
  if (tcp && !set_sequence(fd.get(), sequence)) {
    return system_error(errno, "set TCP_REPAIR for", "the probe's socket", "needs CAP_NET_ADMIN: run as root");
  }
  const SocketAddress own = probe.source.value_or(SocketAddress{.address = IpAddress::any(family), .port = {}});
  sockaddr_storage native{};
  socklen_t length = own.to_native(native);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0) {
    return system_error(errno, "bind", own.to_string(),
                        errno == EADDRNOTAVAIL
                            ? "a local probe comes from an address of this host; leave it out and the "
                              "kernel chooses"
                            : "");
  }
  length = sizeof native;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&native), &length) != 0) {
    return system_error(errno, "read address of", "the probe's socket");
  }
  const auto bound = SocketAddress::from_native(native);
  if (!bound) return std::unexpected(bound.error());
  return LocalProbeSocket{.fd = std::move(fd), .port = bound->port};
}

Status send_local_probe(const LocalProbeSocket& socket, const LocalProbe& probe, std::span<const std::byte> payload) {
  sockaddr_storage native{};
  const socklen_t length = probe.destination.to_native(native);
  const auto* address = reinterpret_cast<const sockaddr*>(&native);
  const std::string object = probe.destination.to_string();
  if (probe.transport == Transport::tcp) {
    if (connect(socket.fd.get(), address, length) == 0 || errno == EINPROGRESS) return {};
    return system_error(errno, "connect to", object);
  }
  if (sendto(socket.fd.get(), payload.data(), payload.size(), 0, address, length) >= 0) return {};
  return system_error(errno, "send to", object);
}

}  // namespace limpid
