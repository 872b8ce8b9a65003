// Finds the process behind a busy port: the socket's inode in /proc/net/{tcp,udp}{,6}, then the process that has that
// inode open. Without privileges it sees the user's own processes only, and then finds nothing.
#include "net/port_owner.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace limpid {
namespace {

namespace fs = std::filesystem;

/// A line of /proc/net/{tcp,udp}{,6}: "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …"
/// (proc_net_tcp in the kernel's documentation). Ports are in hexadecimal behind the colon.
struct SocketLine {
  std::string address;  ///< local, in hexadecimal
  Port port;            ///< local
  std::string state;    ///< 0A is LISTEN; a UDP socket is in 01 when connected, in 07 when not
  std::string link;     ///< what its descriptors in /proc/PID/fd point to
};

std::vector<SocketLine> read_sockets(std::string_view protocol) {
  std::vector<SocketLine> lines;
  for (const std::string_view family : {"", "6"}) {
    std::ifstream file(fmt::format("/proc/thread-self/net/{}{}", protocol, family));
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      std::istringstream words(line);
      std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
      words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
      const auto colon = local.find(':');
      std::uint16_t port = 0;
      if (colon == std::string::npos) continue;
      std::from_chars(local.data() + colon + 1, local.data() + local.size(), port, 16);
      lines.push_back({local.substr(0, colon), {port}, state, "socket:[" + inode + "]"});
    }
  }
  return lines;
}

// A program chooses its own comm: nothing in it may act on the terminal.
std::string name_of(const fs::path& process) {
  std::ifstream file(process / "comm");
  std::string name;
  std::getline(file, name);
  std::ranges::replace_if(name, [](char character) { return character < ' ' || character > '~'; }, '?');
  return name;
}

/// The user that a process runs as, by its file system user ID: what nftables' `meta skuid` sees of the sockets that it opens.
/// "Uid: real effective saved file-system", proc_pid_status(5).
std::optional<std::uint32_t> user_of(const fs::path& process) {
  std::ifstream file(process / "status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("Uid:")) continue;
    std::istringstream words(line.substr(4));
    std::uint32_t real = 0;
    std::uint32_t effective = 0;
    std::uint32_t saved = 0;
    std::uint32_t file_system = 0;
    if (words >> real >> effective >> saved >> file_system) return file_system;
  }
  return std::nullopt;
}

/// Calls `visit(process, link)` for every descriptor of every process that is one of the sockets, until it returns false.
template <class Visit>
void visit_holders(const std::vector<SocketLine>& sockets, Visit visit) {
  std::set<std::string> wanted;
  for (const auto& socket : sockets) wanted.insert(socket.link);
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code unreadable;
    for (fs::directory_iterator fd(entry->path() / "fd", unreadable); !unreadable && fd != end;
         fd.increment(unreadable)) {
      std::error_code gone;
      const std::string link = fs::read_symlink(fd->path(), gone).string();
      if (!gone && wanted.contains(link) && !visit(entry->path(), link)) return;
    }
  }
}

/// "NAME (pid N)" of one process for each of the sockets, by its link.
std::map<std::string, std::string> find_processes(const std::vector<SocketLine>& sockets) {
  std::map<std::string, std::string> found;
  visit_holders(sockets, [&](const fs::path& process, const std::string& link) {
    if (!found.contains(link)) {
      found.emplace(link, fmt::format("{} (pid {})", name_of(process), process.filename().string()));
    }
    return found.size() < sockets.size();
  });
  return found;
}

/// Those that receive what is sent to `port`.
std::vector<SocketLine> servers_on(std::string_view protocol, Port port) {
  auto sockets = read_sockets(protocol);
  std::erase_if(sockets, [&](const SocketLine& socket) {
    return socket.port != port || (protocol == "tcp" && socket.state != "0A");
  });
  return sockets;
}

std::string any_owner(std::string_view protocol, Port port) {
  const auto sockets = servers_on(protocol, port);
  if (sockets.empty()) return {};
  const auto processes = find_processes(sockets);
  return processes.empty() ? "" : processes.begin()->second;
}

bool is_wildcard(const SocketLine& socket) {
  return socket.address.find_first_not_of('0') == std::string::npos;
}

}  // namespace

std::string find_port_owner(Port port) {
  return any_owner("tcp", port);
}

std::string find_udp_port_owner(Port port) {
  return any_owner("udp", port);
}

std::optional<PortProcess> find_port_process(Transport transport, Port port) {
  const auto sockets = servers_on(transport == Transport::tcp ? "tcp" : "udp", port);
  std::optional<PortProcess> found;
  if (sockets.empty()) return found;
  visit_holders(sockets, [&](const fs::path& process, const std::string&) {
    found = PortProcess{.pid = 0, .name = name_of(process)};
    const std::string number = process.filename().string();
    std::from_chars(number.data(), number.data() + number.size(), found->pid);
    return false;
  });
  return found;
}

std::unexpected<Error> port_in_use(Transport transport, Port port, std::string_view remedy) {
  const bool tcp = transport == Transport::tcp;
  const std::string owner = tcp ? find_port_owner(port) : find_udp_port_owner(port);
  return failure(tcp ? "listen on port" : "listen on UDP port", fmt::to_string(port.value),
                 owner.empty() ? "it is in use" : "it is in use by " + owner, remedy);
}

std::vector<UdpServer> find_wildcard_udp_servers(const PortSet& ports, std::size_t most) {
  auto sockets = read_sockets("udp");
  std::erase_if(sockets, [&](const SocketLine& socket) {
    return !is_wildcard(socket) || socket.state != "07" || !ports.contains(socket.port);
  });
  if (sockets.empty()) return {};
  const auto processes = find_processes(sockets);
  std::set<std::pair<Port, std::string>> servers;
  for (const auto& socket : sockets) {
    const auto found = processes.find(socket.link);
    servers.emplace(socket.port, found == processes.end() ? "" : found->second);
  }
  std::vector<UdpServer> first;
  for (const auto& [port, process] : servers) {
    if (first.size() < most) first.push_back({port, process});
  }
  return first;
}

std::vector<std::uint32_t> find_port_users(Port port) {
  auto sockets = servers_on("tcp", port);
  std::ranges::move(servers_on("udp", port), std::back_inserter(sockets));
  std::set<std::uint32_t> users;
  if (sockets.empty()) return {};
  visit_holders(sockets, [&](const fs::path& process, const std::string&) {
    if (const auto user = user_of(process)) users.insert(*user);
    return true;
  });
  return {users.begin(), users.end()};
}

}  // namespace limpid
