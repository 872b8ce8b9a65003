// The order matters: groups before the user, while that is still permitted; capabilities last, because setuid(2) takes them.
#include "base/confinement.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <vector>

namespace limpid {
namespace {

using CapabilitySets = std::array<__user_cap_data_struct, 2>;  // capget(2): version 3 has 64 bits in two halves

Status change_user(const UnprivilegedUser& wanted) {
  if (setgroups(0, nullptr) != 0 || setgid(wanted.group) != 0 || setuid(wanted.user) != 0) {
    return system_error(errno, "become", "an unprivileged user",
                        "in a network of one user's own there is only that user");
  }
  return {};
}

std::optional<UnprivilegedUser> find_user(const char* name) {
  std::vector<char> buffer(std::size_t{16} << 10U);
  passwd entry{};
  passwd* found = nullptr;
  if (getpwnam_r(name, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) return std::nullopt;
  return UnprivilegedUser{.user = found->pw_uid, .group = found->pw_gid};
}

/// glibc has no functions for these two.
Status keep_capabilities(std::span<const unsigned> kept) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  CapabilitySets sets{};
  if (syscall(SYS_capget, &header, sets.data()) != 0) return system_error(errno, "read", "capabilities");
  CapabilitySets wanted{};
  for (const unsigned capability : kept) wanted.at(capability / 32).permitted |= 1U << (capability % 32);
  for (std::size_t half = 0; half < sets.size(); ++half) {
    wanted.at(half).permitted &= sets.at(half).permitted;
    wanted.at(half).effective = wanted.at(half).permitted;
  }
  if (syscall(SYS_capset, &header, wanted.data()) != 0) return system_error(errno, "give up", "capabilities");
  return {};
}

}  // namespace

UnprivilegedUser find_unprivileged_user() {
  return find_user("nobody").value_or(UnprivilegedUser{});
}

UnprivilegedUser find_service_user() {
  const auto own = find_user("limpid");
  // A "limpid" that is root by another name would be no confinement.
  return own && own->user != 0 ? *own : find_unprivileged_user();
}

void close_inherited_descriptors() noexcept {
  close_range(STDERR_FILENO + 1, ~0U, 0);
}

Status enter_root_directory(const std::string& directory) {
  if (chroot(directory.c_str()) == 0 && chdir("/") == 0) return {};
  const int code = errno;
  if (code == ENOENT) {
    return usage_error("chroot", directory, "there is no such directory",
                       "mkdir -p " + directory + ", or name another");
  }
  if (code == ENOTDIR) return usage_error("chroot", directory, "not a directory", "name one, best an empty one");
  return system_error(code, "chroot", directory, code == EPERM ? "needs CAP_SYS_CHROOT: run it as root" : "");
}

Status give_up_privileges(const UnprivilegedUser& user, std::span<const unsigned> kept) {
  if (geteuid() == 0) {
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return system_error(errno, "keep", "capabilities");
    if (auto changed = change_user(user); !changed) return changed;
  }
  return limit_capabilities(kept);
}

Status limit_capabilities(std::span<const unsigned> kept) {
  if (auto reduced = keep_capabilities(kept); !reduced) return reduced;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error(errno, "set", "no_new_privs");
  return {};
}

Status give_up_capabilities() {
  return limit_capabilities({});
}

void limit_bounding_set(std::span<const unsigned> kept) noexcept {
  // The kernel says which is its last one by refusing the next (capabilities(7)).
  for (unsigned capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (std::ranges::find(kept, capability) == kept.end()) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
}

}  // namespace limpid
