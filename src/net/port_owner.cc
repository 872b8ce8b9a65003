// Finds the process behind a busy port: the socket's inode through sock_diag, then the process that has that inode open. Without
// privileges it sees the user's own processes only, and then finds nothing.
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

#include "net/socket_diag.h"

namespace limpid {
namespace {

namespace fs = std::filesystem;

/// What a descriptor of it in /proc/PID/fd points to.
std::string link_of(const ServerSocket& socket) {
  return fmt::format("socket:[{}]", socket.inode);
}

/// None where the kernel does not tell: who asks wants a name for a message, which does without.
std::vector<ServerSocket> sockets_of(Transport transport, std::optional<Port> port = {}) {
  return server_sockets(transport, port).value_or(std::vector<ServerSocket>{});
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
void visit_holders(const std::vector<ServerSocket>& sockets, Visit visit) {
  std::set<std::string> wanted;
  for (const auto& socket : sockets) wanted.insert(link_of(socket));
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
std::map<std::string, std::string> find_processes(const std::vector<ServerSocket>& sockets) {
  std::map<std::string, std::string> found;
  visit_holders(sockets, [&](const fs::path& process, const std::string& link) {
    if (!found.contains(link)) {
      found.emplace(link, fmt::format("{} (pid {})", name_of(process), process.filename().string()));
    }
    return found.size() < sockets.size();
  });
  return found;
}

std::string any_owner(Transport transport, Port port) {
  const auto sockets = sockets_of(transport, port);
  if (sockets.empty()) return {};
  const auto processes = find_processes(sockets);
  return processes.empty() ? "" : processes.begin()->second;
}

}  // namespace

std::string find_port_owner(Port port) {
  return any_owner(Transport::tcp, port);
}

std::string find_udp_port_owner(Port port) {
  return any_owner(Transport::udp, port);
}

std::optional<PortProcess> find_port_process(Transport transport, Port port) {
  const auto sockets = sockets_of(transport, port);
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
  auto sockets = sockets_of(Transport::udp);
  std::erase_if(sockets, [&](const ServerSocket& socket) {
    return !socket.local.address.is_unspecified() || socket.connected || !ports.contains(socket.local.port);
  });
  if (sockets.empty()) return {};
  const auto processes = find_processes(sockets);
  std::set<std::pair<Port, std::string>> servers;
  for (const auto& socket : sockets) {
    const auto found = processes.find(link_of(socket));
    servers.emplace(socket.local.port, found == processes.end() ? "" : found->second);
  }
  std::vector<UdpServer> first;
  for (const auto& [port, process] : servers) {
    if (first.size() < most) first.push_back({port, process});
  }
  return first;
}

std::vector<std::uint32_t> find_port_users(Port port) {
  auto sockets = sockets_of(Transport::tcp, port);
  std::ranges::move(sockets_of(Transport::udp, port), std::back_inserter(sockets));
  std::set<std::uint32_t> users;
  if (sockets.empty()) return {};
  visit_holders(sockets, [&](const fs::path& process, const std::string&) {
    if (const auto user = user_of(process)) users.insert(*user);
    return true;
  });
  return {users.begin(), users.end()};
}

}  // namespace limpid
