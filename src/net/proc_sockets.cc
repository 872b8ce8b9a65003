// Reads the files line by line. Addresses are words of 32 bits in hexadecimal, each printed as the number that the host makes of the
// bytes in network order (get_tcp4_sock() in net/ipv4/tcp_ipv4.c); ports are numbers.
#include "net/proc_sockets.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

namespace limpid {
namespace {

// include/net/tcp_states.h.
constexpr unsigned kEstablished = 0x01;
constexpr unsigned kClose = 0x07;
constexpr unsigned kListen = 0x0a;

template <class Number>
bool read_number(std::string_view text, Number& number, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size();
}

std::optional<IpAddress> read_address(std::string_view text, Family family) {
  constexpr std::size_t kWordDigits = 8;
  const std::size_t words = family == Family::ipv4 ? 1 : 4;
  if (text.size() != words * kWordDigits) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t i = 0; i < words; ++i) {
    std::uint32_t word = 0;
    if (!read_number(text.substr(i * kWordDigits, kWordDigits), word, 16)) return std::nullopt;
    std::memcpy(bytes.data() + i * sizeof word, &word, sizeof word);
  }
  return IpAddress::from_bytes(family, bytes);
}

}  // namespace

std::optional<ServerSocket> read_proc_socket(Transport transport, Family family, std::string_view line) {
  std::istringstream words{std::string(line)};
  std::string slot, local, remote, state_word, queues, timer, retransmits, user, timeout, inode;
  words >> slot >> local >> remote >> state_word >> queues >> timer >> retransmits >> user >> timeout >> inode;
  const auto colon = local.find(':');
  if (!words || colon == std::string::npos) return std::nullopt;
  const std::string_view where = local;
  const auto address = read_address(where.substr(0, colon), family);
  unsigned state = 0;
  ServerSocket socket;
  socket.transport = transport;
  if (!address || !read_number(where.substr(colon + 1), socket.local.port.value, 16) ||
      !read_number(std::string_view(state_word), state, 16) || !read_number(std::string_view(user), socket.user, 10) ||
      !read_number(std::string_view(inode), socket.inode, 10)) {
    return std::nullopt;
  }
  socket.local.address = *address;
  socket.connected = state == kEstablished;
  const bool serves = transport == Transport::tcp ? state == kListen : state == kEstablished || state == kClose;
  return serves ? std::optional(socket) : std::nullopt;
}

std::vector<ServerSocket> server_sockets_in_proc(Transport transport, std::optional<Port> port) {
  std::vector<ServerSocket> sockets;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    std::ifstream file(fmt::format("/proc/thread-self/net/{}{}", transport == Transport::tcp ? "tcp" : "udp",
                                   family == Family::ipv4 ? "" : "6"));
    for (std::string line; std::getline(file, line);) {
      const auto socket = read_proc_socket(transport, family, line);
      if (socket && (!port || socket->local.port == *port)) sockets.push_back(*socket);
    }
  }
  return sockets;
}

}  // namespace limpid
