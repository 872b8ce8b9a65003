// sock_diag finds one socket without a dump (inet_diag_find_one_icsk() in net/ipv4/inet_diag.c, udp_dump_one() in net/ipv4/udp_diag.c). Nothing in the kernel leads from a
// socket to its processes, so those are searched for.
#include "net/socket_owner.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>
#include <utility>

#include "net/netlink_message.h"

namespace limpid {
namespace {

constexpr std::uint16_t kCgroupId = 21;  // INET_DIAG_CGROUP_ID, Linux 5.9
constexpr unsigned kListen = 10;         // TCP_LISTEN, include/net/tcp_states.h
constexpr std::size_t kMostRecent = 16;

void put(std::array<__be32, 4>& words, const IpAddress& address) noexcept {
  const auto bytes = address.bytes();
  std::memcpy(words.data(), bytes.data(), std::min(bytes.size(), sizeof words));
}

struct DirectoryCloser {
  void operator()(DIR* directory) const noexcept { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

Directory open_directory(int parent, const char* name) noexcept {
  UniqueFd fd(openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return nullptr;
  Directory directory(fdopendir(fd.get()));
  if (directory) std::ignore = fd.release();
  return directory;
}

std::optional<pid_t> process_of(const char* name) noexcept {
  pid_t pid = 0;
  const char* const end = name + std::strlen(name);
  const auto [stopped, error] = std::from_chars(name, end, pid);
  return error == std::errc{} && stopped == end ? std::optional(pid) : std::nullopt;
}

std::string link_at(int directory, const char* name) {
  std::array<char, PATH_MAX> text{};
  const ssize_t length = readlinkat(directory, name, text.data(), text.size());
  return length > 0 ? std::string(text.data(), static_cast<std::size_t>(length)) : std::string();
}

/// One search, with what it may still look at.
class Search {
 public:
  explicit Search(const OwnedSocket& socket)
      : wanted_("socket:[" + std::to_string(socket.inode) + "]"),
        user_(socket.user),
        proc_(open_directory(AT_FDCWD, "/proc")) {}

  bool has(pid_t pid) {
    if (!proc_) return false;
    const std::string path = std::to_string(pid) + "/fd";
    const Directory descriptors = open_directory(dirfd(proc_.get()), path.c_str());
    if (!descriptors) return false;
    while (const dirent* entry = next(*descriptors)) {
      if (entry->d_name[0] == '.') continue;
      if (left_ == 0) return false;
      --left_;
      std::array<char, 32> link{};
      const ssize_t length = readlinkat(dirfd(descriptors.get()), entry->d_name, link.data(), link.size());
      if (length > 0 && std::string_view(link.data(), static_cast<std::size_t>(length)) == wanted_) return true;
    }
    return false;
  }

  /// Processes of the socket's user first: most sockets are used by who opened them.
  std::optional<pid_t> run() {
    if (!proc_) return std::nullopt;
    std::vector<pid_t> others;
    while (const dirent* entry = next(*proc_)) {
      const auto pid = process_of(entry->d_name);
      if (!pid) continue;
      struct stat status{};
      if (fstatat(dirfd(proc_.get()), entry->d_name, &status, 0) != 0) continue;
      if (status.st_uid != user_) {
        others.push_back(*pid);
      } else if (has(*pid)) {
        return pid;
      }
      if (left_ == 0) return std::nullopt;
    }
    const auto found = std::ranges::find_if(others, [&](pid_t pid) { return left_ > 0 && has(pid); });
    return found == others.end() ? std::nullopt : std::optional(*found);
  }

 private:
  static const dirent* next(DIR& directory) noexcept {
    return readdir(&directory);  // NOLINT(concurrency-mt-unsafe): each stream has one thread, readdir(3)
  }

  std::string wanted_;
  std::uint32_t user_;
  Directory proc_;
  std::size_t left_ = ProcessFinder::kMostDescriptors;
};

/// mountinfo writes spaces and their like as \040.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ec == std::errc{}) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

Result<SocketFinder> SocketFinder::open() {
  auto socket = NetlinkSocket::open(NETLINK_SOCK_DIAG);
  if (!socket) return std::unexpected(socket.error());
  return SocketFinder(std::move(*socket));
}

std::optional<OwnedSocket> SocketFinder::find(Transport transport, const SocketAddress& local,
                                              const SocketAddress& remote) {
  if (local.family() != remote.family()) return std::nullopt;
  netlink::Request request(SOCK_DIAG_BY_FAMILY, 0);
  auto& query = request.extra_header<inet_diag_req_v2>();
  query.sdiag_family = netlink::to_native(local.family());
  query.sdiag_protocol = transport == Transport::tcp ? IPPROTO_TCP : IPPROTO_UDP;
  query.idiag_states = ~0U;
  query.id.idiag_cookie[0] = query.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  // "src and dst are swapped for historical reasons", says udp_dump_one() of UDP.
  const SocketAddress& source = transport == Transport::tcp ? local : remote;
  const SocketAddress& destination = transport == Transport::tcp ? remote : local;
  std::array<__be32, 4> words{};
  put(words, source.address);
  std::ranges::copy(words, std::begin(query.id.idiag_src));
  words = {};
  put(words, destination.address);
  std::ranges::copy(words, std::begin(query.id.idiag_dst));
  query.id.idiag_sport = htons(source.port.value);
  query.id.idiag_dport = htons(destination.port.value);
  query.id.idiag_if = local.scope_id;
  std::optional<OwnedSocket> found;
  // None: an error, and as good an answer.
  std::ignore = socket_.ask(request.header(), "find a socket", "", [&](const nlmsghdr& message) {
    if (message.nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(&message) < sizeof(inet_diag_msg))
      return;
    const auto& header = *static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(&message));
    // Where there is no connection, TCP answers with a listener; a socket without an inode has been closed by its program.
    if (header.id.idiag_sport != htons(local.port.value) || header.idiag_inode == 0) return;
    if (transport == Transport::tcp &&
        (header.idiag_state == kListen || header.id.idiag_dport != htons(remote.port.value)))
      return;
    found = OwnedSocket{.user = header.idiag_uid, .inode = header.idiag_inode};
    const netlink::Attributes<kCgroupId> attributes(message, sizeof header);
    if (const nlattr* id = attributes[kCgroupId];
        id != nullptr && mnl_attr_get_payload_len(id) == sizeof(std::uint64_t)) {
      std::uint64_t value = 0;
      std::memcpy(&value, mnl_attr_get_payload(id), sizeof value);
      found->cgroup = value;
    }
  });
  return found;
}

CgroupNames::CgroupNames() {
  // "36 35 0:31 / /sys/fs/cgroup rw,… shared:9 - cgroup2 cgroup2 rw", proc_pid_mountinfo(5).
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (!line.contains(" - cgroup2 ")) continue;
    std::istringstream words(line);
    std::string word;
    for (int i = 0; i < 5; ++i) words >> word;
    mount_point_ = unescaped(word);
    mount_ = UniqueFd(::open(mount_point_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (mount_.valid()) return;
  }
}

std::string CgroupNames::path_of(std::uint64_t id) const {
  constexpr int kKernfsHandle = 0xfe;  // FILEID_KERNFS, include/linux/exportfs.h: the id is the whole handle
  if (!mount_.valid()) return {};
  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + sizeof id> buffer{};
  auto& handle = *reinterpret_cast<file_handle*>(buffer.data());
  handle.handle_bytes = sizeof id;
  handle.handle_type = kKernfsHandle;
  std::memcpy(buffer.data() + sizeof(file_handle), &id, sizeof id);
  const UniqueFd directory(open_by_handle_at(mount_.get(), &handle, O_PATH | O_CLOEXEC));
  if (!directory.valid()) return {};
  std::string path = link_at(AT_FDCWD, ("/proc/self/fd/" + std::to_string(directory.get())).c_str());
  if (!path.starts_with(mount_point_) || path.ends_with(" (deleted)")) return {};
  path.erase(0, mount_point_.size());
  return path.empty() ? "/" : path;
}

bool CgroupNames::may_look() const {
  struct stat top{};
  // The mount's own inode number is its id (kernfs_id_ino() in include/linux/kernfs.h, of 64 bits).
  return !mount_.valid() || fstat(mount_.get(), &top) != 0 || !path_of(top.st_ino).empty();
}

std::optional<pid_t> ProcessFinder::find(const OwnedSocket& socket) {
  Search search(socket);
  auto known = std::ranges::find_if(recent_, [&](pid_t pid) { return search.has(pid); });
  const auto pid = known != recent_.end() ? std::optional(*known) : search.run();
  if (!pid) return std::nullopt;
  if (known == recent_.end()) {
    if (recent_.size() == kMostRecent) recent_.pop_back();
    known = recent_.insert(recent_.end(), *pid);
  }
  std::ranges::rotate(recent_.begin(), known, known + 1);
  return pid;
}

std::optional<ProcessIdentity> identify_process(pid_t pid) {
  const std::string directory = "/proc/" + std::to_string(pid);
  std::ifstream status(directory + "/status");
  if (!status) return std::nullopt;
  ProcessIdentity identity;
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("Gid:")) continue;
    std::istringstream words(line.substr(4));  // real effective saved file-system, proc_pid_status(5)
    std::uint32_t real = 0;
    words >> real >> identity.group;
  }
  constexpr std::string_view kDeleted = " (deleted)";
  identity.executable = link_at(AT_FDCWD, (directory + "/exe").c_str());
  if (identity.executable.ends_with(kDeleted))  // replaced while it runs, by an upgrade
    identity.executable.erase(identity.executable.size() - kDeleted.size());
  std::ifstream cgroups(directory + "/cgroup");
  for (std::string line; std::getline(cgroups, line);) {
    if (line.starts_with("0::")) identity.cgroup = line.substr(3);
  }
  return identity;
}

}  // namespace limpid
