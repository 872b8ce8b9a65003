// Names in the bpf file system for what is loaded. A folder for each namespace and instance, removed when it is empty.
// Called by ebpf.cc behind every installation and removal.
#include "intercept/ebpf_pins.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string_view>

namespace limpid {
namespace {

constexpr const char* kRoot = "/sys/fs/bpf";
constexpr int kNamespaceCookie = 71;  // SO_NETNS_COOKIE, include/uapi/asm-generic/socket.h
constexpr std::array<std::string_view, 13> kNames = {"ingress",   "egress", "owner",    "policies", "active",
                                                     "networks",  "links",  "served",   "counters", "reopened",
                                                     "listeners", "reopen", "reopening"};

/// Never given out again, unlike the number of its inode.
std::optional<std::uint64_t> namespace_cookie() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (!socket.valid() || ::getsockopt(socket.get(), SOL_SOCKET, kNamespaceCookie, &cookie, &length) != 0)
    return std::nullopt;
  return cookie;
}

Status make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error(errno, "make", path);
  return {};
}

}  // namespace

std::string pin_folder(const std::string& name) {
  struct statfs facts{};
  const auto cookie = namespace_cookie();
  if (!cookie || ::statfs(kRoot, &facts) != 0 || facts.f_type != BPF_FS_MAGIC) return {};
  return fmt::format("{}/limpid/{}/{}", kRoot, *cookie, name);
}

Status pin_programs(const std::string& name, const EbpfPrograms& programs) {
  const std::string folder = pin_folder(name);
  if (folder.empty()) return {};
  const std::string of_namespace = folder.substr(0, folder.rfind('/'));
  for (const std::string& path : {std::string(kRoot) + "/limpid", of_namespace, folder}) {
    if (auto made = make_folder(path); !made) return made;
  }
  for (const auto& [fd, object] : programs.objects()) {
    const std::string path = folder + '/' + object;
    if (fd < 0) continue;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return system_error(errno, "replace", path);
    if (const int code = bpf_obj_pin(fd, path.c_str()); code != 0) return system_error(-code, "pin", path);
  }
  return {};
}

void unpin_programs(const std::string& name) {
  const std::string folder = pin_folder(name);
  if (folder.empty()) return;
  for (const std::string_view object : kNames) ::unlink(fmt::format("{}/{}", folder, object).c_str());
  // Each only when it is empty: others may be in it.
  ::rmdir(folder.c_str());
  const std::string of_namespace = folder.substr(0, folder.rfind('/'));
  ::rmdir(of_namespace.c_str());
  ::rmdir((std::string(kRoot) + "/limpid").c_str());
}

}  // namespace limpid
