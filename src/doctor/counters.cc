// See counters.h. Everything of /proc/net is read through /proc/thread-self, so that it is this thread's namespace.
#include "doctor/counters.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

#include "base/file_text.h"

namespace limpid::doctor {
namespace {

std::uint64_t number_in(std::string_view text, int base) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number, base);
  return number;
}

/// "0100007F:1F90" or the same with 32 digits: words of four bytes in the machine's own order (proc_net_tcp.rst).
std::optional<SocketAddress> address_of(std::string_view text, Family family) {
  const auto colon = text.find(':');
  const std::size_t digits = family == Family::ipv4 ? 8 : 32;
  if (colon != digits) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t word = 0; word < digits / 8; ++word) {
    const auto value = static_cast<std::uint32_t>(number_in(text.substr(word * 8, 8), 16));
    for (std::size_t i = 0; i < 4; ++i) {
      const bool little = std::endian::native == std::endian::little;
      bytes[word * 4 + i] = static_cast<std::uint8_t>(value >> (8 * (little ? i : 3 - i)) & 0xffU);
    }
  }
  return SocketAddress{.address = IpAddress::from_bytes(family, bytes),
                       .port = Port{static_cast<std::uint16_t>(number_in(text.substr(colon + 1), 16))}};
}

/// A line of /proc/net/tcp (proc_net_tcp.rst).
struct Connection {
  SocketAddress local;
  SocketAddress remote;
  std::string state;
  unsigned repeated = 0;
  std::uint64_t inode = 0;
};

template <class Function>
void for_each_connection(Function function) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    std::ifstream file(family == Family::ipv4 ? "/proc/thread-self/net/tcp" : "/proc/thread-self/net/tcp6");
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string slot, local, remote, state, queues, timer, retransmits, user, timeout, inode;
      words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >> inode;
      const auto from = address_of(local, family);
      const auto to = address_of(remote, family);
      if (!from || !to) continue;
      function(Connection{.local = *from,
                          .remote = *to,
                          .state = state,
                          .repeated = static_cast<unsigned>(number_in(retransmits, 16)),
                          .inode = number_in(inode, 10)});
    }
  }
}

}  // namespace

std::uint64_t find_counter(std::string_view text, std::string_view group, std::string_view name) {
  std::istringstream lines{std::string(text)};
  std::string names;
  std::string values;
  while (std::getline(lines, names) && std::getline(lines, values)) {
    std::istringstream name_words(names);
    std::istringstream value_words(values);
    std::string each;
    std::string value;
    name_words >> each;
    value_words >> value;
    if (each != group) continue;
    while (name_words >> each && value_words >> value) {
      if (each == name) return number_in(value, 10);
    }
  }
  return 0;
}

std::uint64_t read_reverse_path_drops() {
  return find_counter(read_text("/proc/thread-self/net/netstat"), "TcpExt:", "IPReversePathFilter");
}

std::uint64_t read_martian_sources() {
  std::istringstream lines(read_text("/proc/thread-self/net/stat/rt_cache"));
  std::string line;
  std::getline(lines, line);
  std::istringstream names(line);
  std::size_t column = 0;
  bool found = false;
  for (std::string name; !found && names >> name;) {
    found = name == "in_martian_src";
    if (!found) ++column;
  }
  std::uint64_t sum = 0;
  while (found && std::getline(lines, line)) {  // a line for each processor, in hexadecimal
    std::istringstream values(line);
    std::string value;
    for (std::size_t i = 0; i <= column; ++i) values >> value;
    sum += number_in(value, 16);
  }
  return sum;
}

std::uint64_t read_time_wait() {
  std::istringstream words(read_text("/proc/thread-self/net/sockstat"));
  for (std::string word; words >> word;) {
    std::uint64_t count = 0;
    if (word == "tw" && words >> count) return count;
  }
  return 0;
}

std::uint64_t read_available_memory_kib() {
  std::istringstream words(read_text("/proc/meminfo"));
  for (std::string word; words >> word;) {
    std::uint64_t kib = 0;
    if (word == "MemAvailable:" && words >> kib) return kib;
  }
  return 0;
}

std::vector<UnansweredConnection> read_unanswered() {
  static constexpr std::string_view kSynSent = "02";
  std::vector<UnansweredConnection> found;
  for_each_connection([&](const Connection& connection) {
    if (connection.state == kSynSent && connection.repeated != 0)
      found.push_back({.local = connection.local, .target = connection.remote, .repeated = connection.repeated});
  });
  return found;
}

std::vector<WaitingConnection> read_waiting() {
  static constexpr std::string_view kEstablished = "01";
  static constexpr std::string_view kCloseWait = "08";
  std::vector<WaitingConnection> found;
  for_each_connection([&](const Connection& connection) {
    // accept(2) is what gives it an inode (sock_graft() in include/net/sock.h).
    if ((connection.state == kEstablished || connection.state == kCloseWait) && connection.inode == 0)
      found.push_back({.local = connection.local, .client = connection.remote});
  });
  return found;
}

}  // namespace limpid::doctor
