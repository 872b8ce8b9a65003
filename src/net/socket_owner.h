// Whose a socket of this host is: its user and cgroup, asked of sock_diag for exactly that socket, and a process that has it open, found in /proc.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "net/endpoint.h"
#include "net/netlink_socket.h"

namespace limpid {

struct OwnedSocket {
  std::uint32_t user = 0;                 ///< who opened it (or fchown'ed it)
  std::uint32_t inode = 0;                ///< "socket:[INODE]" in /proc/PID/fd
  std::optional<std::uint64_t> cgroup{};  ///< id in cgroup v2, of the moment at which it was opened; Linux 5.9 tells
};

/// One thread at a time; of the network namespace in which it was opened.
class SocketFinder {
 public:
  [[nodiscard]] static Result<SocketFinder> open();
  /// The socket here that has sent from `local` to `remote`, and is still open. Empty: there is none.
  [[nodiscard]] std::optional<OwnedSocket> find(Transport transport, const SocketAddress& local,
                                                const SocketAddress& remote);

 private:
  explicit SocketFinder(NetlinkSocket socket) noexcept : socket_(std::move(socket)) {}
  NetlinkSocket socket_;
};

/// Turns ids of cgroup v2 into paths.
class CgroupNames {
 public:
  CgroupNames();
  /// Below the mount, "/" for the root. Empty: it has gone, there is no cgroup v2, or CAP_DAC_READ_SEARCH is missing.
  [[nodiscard]] std::string path_of(std::uint64_t id) const;
  /// Whether paths are told to this thread: false without CAP_DAC_READ_SEARCH, or where a filter forbids open_by_handle_at(2). True where there is no cgroup v2.
  [[nodiscard]] bool may_look() const;

 private:
  UniqueFd mount_;
  std::string mount_point_;
};

/// Looks for processes by a socket that they have open; those that were found lately are asked first. Sees what it may: others' processes with
/// CAP_SYS_PTRACE (their descriptors' links, proc_fd_access_allowed() in fs/proc/base.c) and CAP_DAC_READ_SEARCH (the folder of these, which is 0500).
class ProcessFinder {
 public:
  /// Descriptors that one search looks at, at most: a bound for the time that it may take (docs/policy.md has what was measured).
  static constexpr std::size_t kMostDescriptors = 8192;
  /// Empty: none was found. `user` is whose processes are asked first.
  [[nodiscard]] std::optional<pid_t> find(const OwnedSocket& socket);

 private:
  std::vector<pid_t> recent_;  ///< the latest first
};

struct ProcessIdentity {
  std::uint32_t group = 0;  ///< effective
  std::string executable;   ///< empty: not told
  std::string cgroup;       ///< of v2; empty: none
};
/// Empty: it has gone.
[[nodiscard]] std::optional<ProcessIdentity> identify_process(pid_t pid);

}  // namespace limpid
