// See reuseport.h. A program of classic BPF (socket(7), SO_ATTACH_REUSEPORT_CBPF); what it returns is the place of a listener in its group.
#include "net/reuseport.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include <cerrno>
#include <vector>

namespace limpid {
namespace {

constexpr int kAttach = 51;  // SO_ATTACH_REUSEPORT_CBPF, include/uapi/asm-generic/socket.h
constexpr std::uint32_t kMultiplier = 0x9e3779b1;

sock_filter load(std::uint16_t size, int offset) {
  return {static_cast<std::uint16_t>(BPF_LD | BPF_ABS | size), 0, 0, static_cast<std::uint32_t>(SKF_NET_OFF + offset)};
}
sock_filter with(std::uint16_t operation, std::uint32_t value) {
  return {static_cast<std::uint16_t>(BPF_ALU | BPF_K | operation), 0, 0, value};
}
constexpr sock_filter kKeep{BPF_MISC | BPF_TAX, 0, 0, 0};
constexpr sock_filter kMix{BPF_ALU | BPF_XOR | BPF_X, 0, 0, 0};

}  // namespace

Status spread_by_client(int fd, Family family, unsigned listeners) {
  std::vector<sock_filter> program;
  if (family == Family::ipv4) {
    // The port is where it is without IP options; with them it is something else of the same client.
    program = {load(BPF_W, 12), kKeep, load(BPF_H, 20), kMix};
  } else {
    program = {load(BPF_W, 20), kKeep, load(BPF_W, 16), kMix, kKeep, load(BPF_H, 40), kMix};
  }
  program.push_back(with(BPF_MUL, kMultiplier));
  program.push_back(with(BPF_RSH, 16));
  program.push_back(with(BPF_MOD, listeners));
  program.push_back({BPF_RET | BPF_A, 0, 0, 0});
  const sock_fprog attached{.len = static_cast<unsigned short>(program.size()), .filter = program.data()};
  if (::setsockopt(fd, SOL_SOCKET, kAttach, &attached, sizeof attached) != 0)
    return system_error(errno, "spread by client", "UDP listeners");
  return {};
}

}  // namespace limpid
