// Finds the process behind a busy port: the listening socket's inode in /proc/net/tcp{,6}, then the process that has
// that inode open. Without privileges it sees the user's own processes only, and then finds nothing.
#include "net/port_owner.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace limpid {
namespace {

namespace fs = std::filesystem;

// A line of /proc/net/tcp: "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …" (proc_net_tcp
// in the kernel's documentation). The local port is in hexadecimal behind the colon; state 0A is LISTEN.
void collect_inodes(const char* path, Port port, std::vector<std::string>& inodes) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const std::string suffix = fmt::format(":{:04X}", port.value);
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
    words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
    if (state == "0A" && local.ends_with(suffix)) inodes.push_back("socket:[" + inode + "]");
  }
}

bool holds_any(const fs::path& process, const std::vector<std::string>& inodes) {
  std::error_code error;
  for (fs::directory_iterator entry(process / "fd", error), end; !error && entry != end; entry.increment(error)) {
    std::error_code unreadable;
    const std::string target = fs::read_symlink(entry->path(), unreadable).string();
    if (!unreadable && std::ranges::find(inodes, target) != inodes.end()) return true;
  }
  return false;
}

// A program chooses its own comm: nothing in it may act on the terminal.
std::string name_of(const fs::path& process) {
  std::ifstream file(process / "comm");
  std::string name;
  std::getline(file, name);
  std::ranges::replace_if(name, [](char character) { return character < ' ' || character > '~'; }, '?');
  return name;
}

}  // namespace

std::string find_port_owner(Port port) {
  std::vector<std::string> inodes;
  collect_inodes("/proc/thread-self/net/tcp", port, inodes);
  collect_inodes("/proc/thread-self/net/tcp6", port, inodes);
  if (inodes.empty()) return {};
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    const std::string pid = entry->path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    if (holds_any(entry->path(), inodes)) return fmt::format("{} (pid {})", name_of(entry->path()), pid);
  }
  return {};
}

}  // namespace limpid
