// Two that start at one time must not take a living socket for one that was left behind: a file in the folder is locked while a socket is looked at and bound. Not
// the folder itself, which anybody may open, and so lock for ever, who may read it (0755, as systemd makes it for a unit).
#include "control/control_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

namespace limpid {
namespace {

constexpr int kBacklog = 64;
constexpr std::string_view kDefaultInstance = "limpid";
constexpr const char* kGroup = "limpid";
constexpr mode_t kFolderMode = 0750;
constexpr mode_t kSocketMode = 0660;
constexpr mode_t kRootsOwnMode = 0600;
constexpr const char* kLock = ".lock";
constexpr std::size_t kGroupBytes = 16384;
/// One who was stopped while he held the lock must not keep us from starting.
constexpr int kLockTries = 100;
constexpr std::chrono::milliseconds kLockPause{10};

std::optional<gid_t> own_group() {
  group entry{};
  group* found = nullptr;
  std::array<char, kGroupBytes> buffer{};
  if (getgrnam_r(kGroup, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return std::nullopt;
  return entry.gr_gid;
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return usage_error("--control", path, "a path of a Unix socket has 1 to 107 bytes",
                       fmt::format("give a shorter one, as {}", default_control_path(kDefaultInstance)));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what bind(2) and connect(2) ask for
  return reinterpret_cast<const sockaddr*>(&address);
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

Status make_default_folder(const std::string& folder, std::optional<gid_t> group) {
  if (folder != run_directory()) return {};
  if (mkdir(folder.c_str(), kFolderMode) != 0) {
    if (errno == EEXIST) return {};
    return system_error(errno, "make folder", folder);
  }
  if (group && chown(folder.c_str(), static_cast<uid_t>(-1), *group) != 0 && errno != EPERM)
    return system_error(errno, "chown", folder);
  return {};
}

/// Held as long as it lives; the file goes with it. Where the lock cannot be had (a folder that is read-only, or somebody else's) there is none: whatever is done in the
/// folder then says more.
class FolderLock {
 public:
  explicit FolderLock(int folder) noexcept : folder_(folder) {
    for (int i = 0; i < kLockTries; ++i) {
      UniqueFd file(openat(folder, kLock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, S_IRUSR | S_IWUSR));
      if (!file.valid()) return;
      if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        std::this_thread::sleep_for(kLockPause);
      } else if (is_in_place(file.get())) {
        file_ = std::move(file);
        return;
      }  // else who held it has taken its name away: the next one has another file
    }
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  FolderLock(FolderLock&&) = delete;
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock() {
    if (file_.valid()) unlinkat(folder_, kLock, 0);
  }

 private:
  [[nodiscard]] bool is_in_place(int file) const noexcept {
    struct stat own{};
    struct stat there{};
    return fstat(file, &own) == 0 && fstatat(folder_, kLock, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           own.st_dev == there.st_dev && own.st_ino == there.st_ino;
  }
  int folder_;  ///< borrowed
  UniqueFd file_;
};

/// 0: somebody listens there (EAGAIN: with a full backlog). Otherwise what is said of it: ECONNREFUSED of a socket without anybody.
int ask_who_listens(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return errno;
  return ::connect(probe.get(), generic(address), sizeof address) == 0 || errno == EAGAIN ? 0 : errno;
}

/// Takes away what a killed instance has left.
Status clear_place(int folder, const std::string& path, const sockaddr_un& address) {
  const std::string file = file_of(path);
  struct stat found{};
  if (fstatat(folder, file.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) return {};
  if (!S_ISSOCK(found.st_mode))
    return failure("listen on", path, "there is something else than a socket", "give another path with --control");
  const int answer = ask_who_listens(address);
  if (answer == 0)
    return failure("listen on", path, "another instance listens there", "give another path with --control, or stop it");
  if (answer != ECONNREFUSED) return system_error(answer, "ask who listens on", path);
  if (unlinkat(folder, file.c_str(), 0) != 0 && errno != ENOENT) return system_error(errno, "remove", path);
  return {};
}

}  // namespace

std::string run_directory() {
  const char* given = std::getenv("LIMPID_RUN_DIRECTORY");  // NOLINT(concurrency-mt-unsafe): nothing of ours changes it
  return given != nullptr && *given == '/' ? given : "/run/limpid";
}

std::string default_control_path(std::string_view instance) {
  if (instance == kDefaultInstance) return run_directory() + "/ctl.sock";
  return fmt::format("{}/ctl-{}.sock", run_directory(), instance);
}

bool is_stale_socket(const std::string& path) {
  const auto address = address_of(path);
  struct stat found{};
  return address && lstat(path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode) &&
         ask_who_listens(*address) == ECONNREFUSED;
}

Result<bool> remove_stale_socket(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  const UniqueFd folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return false;
  const FolderLock lock(folder.get());
  if (!is_stale_socket(path)) return false;
  if (auto cleared = clear_place(folder.get(), path, *address); !cleared) return std::unexpected(cleared.error());
  return true;
}

Result<ControlSocket> ControlSocket::open(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  const auto group = own_group();
  const std::string folder_path = folder_of(path);
  if (auto made = make_default_folder(folder_path, group); !made) return std::unexpected(made.error());
  UniqueFd folder(::open(folder_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return system_error(errno, "open folder", folder_path);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return system_error(errno, "open", "Unix socket");
  ControlSocket opened(path, std::move(folder), std::move(listener));
  const FolderLock lock(opened.folder_.get());  // behind `opened`, so that it is given up first
  if (auto cleared = clear_place(opened.folder_.get(), path, *address); !cleared)
    return std::unexpected(cleared.error());
  // The file gets the socket's mode (unix_bind_bsd() in net/unix/af_unix.c), so at no time may anybody else connect.
  if (fchmod(opened.listener_.get(), S_IRUSR | S_IWUSR) != 0) return system_error(errno, "chmod", path);
  if (::bind(opened.listener_.get(), generic(*address), sizeof *address) != 0) return system_error(errno, "bind", path);
  const std::string file = file_of(path);
  struct stat own{};
  if (fstatat(opened.folder_.get(), file.c_str(), &own, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error(errno, "look at", path);
  opened.device_ = own.st_dev;
  opened.inode_ = own.st_ino;
  mode_t mode = kSocketMode;
  if (group && fchownat(opened.folder_.get(), file.c_str(), static_cast<uid_t>(-1), *group, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno != EPERM) return system_error(errno, "chown", path);
    // Without the right to give it to that group it is root's alone, or of the group that somebody has chosen for us. Mode 0600, so that who changes the folder's group later
    // (systemd does with all that is in a RuntimeDirectory=, when another unit with another group shares it) lets nobody in.
    if (own.st_gid == 0) mode = kRootsOwnMode;
  }
  if (fchmodat(opened.folder_.get(), file.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error(errno, "chmod", path);
  if (::listen(opened.listener_.get(), kBacklog) != 0) return system_error(errno, "listen on", path);
  return opened;
}

ControlSocket::~ControlSocket() {
  if (!folder_.valid()) return;
  const FolderLock lock(folder_.get());
  struct stat there{};
  const std::string file = file_of(path_);
  if (fstatat(folder_.get(), file.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_dev == device_ &&
      there.st_ino == inode_) {
    unlinkat(folder_.get(), file.c_str(), 0);
  }
}

}  // namespace limpid
