// Network and user namespaces, by system call. Changes the calling thread (or process) only; keeps no state.
#include "net/namespace.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "net/netlink.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

Status write_file(const std::string& path, std::string_view text) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return system_error(errno, "open", path);
  if (::write(file.get(), text.data(), text.size()) < 0) return system_error(errno, "write", path);
  return {};
}

// Which switch forbids user namespaces here: distributions have different ones.
std::string user_namespace_remedy() {
  if (read_sysctl("kernel.unprivileged_userns_clone").value_or("1") == "0") {
    return "run `sysctl kernel.unprivileged_userns_clone=1` as root, or run this as root";
  }
  if (read_sysctl("kernel.apparmor_restrict_unprivileged_userns").value_or("0") == "1") {
    return "run `sysctl kernel.apparmor_restrict_unprivileged_userns=0` as root, or run this as root";
  }
  if (read_sysctl("user.max_user_namespaces").value_or("1") == "0") {
    return "run `sysctl user.max_user_namespaces=10000` as root, or run this as root";
  }
  return "a container or security policy forbids it; run this as root";
}

std::unexpected<Error> user_namespace_error(int code, std::string_view object) {
  // ENOSPC: the limit of user.max_user_namespaces (user_namespaces(7)). Either way it is not to be had here.
  auto error = system_error(code, "create", object, user_namespace_remedy());
  error.error().kind = ErrorKind::unsupported;
  return error;
}

}  // namespace

Result<UniqueFd> current_network_namespace() {
  static constexpr auto kPath = "/proc/thread-self/ns/net";
  UniqueFd descriptor(::open(kPath, O_RDONLY | O_CLOEXEC));
  if (!descriptor.valid()) return system_error(errno, "open", kPath);
  return descriptor;
}

Status enter_network_namespace(int descriptor) {
  if (::setns(descriptor, CLONE_NEWNET) < 0) {
    return system_error(errno, "enter", "network namespace", errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
  }
  return {};
}

Status become_root_in_user_namespace() {
  const std::string uid = std::to_string(::geteuid());
  const std::string gid = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) return user_namespace_error(errno, "user namespace");
  // user_namespaces(7): a gid map may be written without privileges only after setgroups(2) has been given up.
  for (const auto& [path, text] : {std::pair<std::string, std::string>{"/proc/self/setgroups", "deny"},
                                   {"/proc/self/uid_map", "0 " + uid + " 1"},
                                   {"/proc/self/gid_map", "0 " + gid + " 1"}}) {
    if (auto written = write_file(path, text); !written) return user_namespace_error(written.error().code, path);
  }
  return {};
}

Status enter_new_network_namespace() {
  if (::unshare(CLONE_NEWNET) < 0) {
    return system_error(errno, "create", "network namespace", errno == EPERM ? "needs CAP_SYS_ADMIN" : "");
  }
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  return socket->set_link_up("lo");
}

bool has_capability(int capability) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (::syscall(SYS_capget, &header, data.data()) < 0) return false;
  const auto index = static_cast<std::size_t>(capability) / 32;
  return index < data.size() && (data[index].effective >> (static_cast<unsigned>(capability) % 32) & 1U) != 0;
}

}  // namespace limpid
