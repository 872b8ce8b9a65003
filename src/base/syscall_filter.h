// A filter of system calls (seccomp(2)) for one kind of process: what is not on its list fails, what only an intruder would call ends the process. Written as a
// classic BPF program by hand: the list is a constant of ours, and a kernel without seccomp is the only thing that can go wrong.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "limpid/error.h"

namespace limpid {

/// A sanitizer makes calls of its own, which a filter would forbid: such a build has none.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSyscallsAreFiltered = false;
#else
inline constexpr bool kSyscallsAreFiltered = true;
#endif

struct SyscallRules {
  std::span<const unsigned> allowed;  ///< SYS_…, whatever their arguments are
  std::span<const unsigned> fatal;    ///< end the process with SIGSYS, whoever waits for that
  std::span<const unsigned>
      netlink_protocols;  ///< NETLINK_…: the only ones that socket(2) gives; of families: IPv4, IPv6, Unix and these
};

/// The program. Besides `allowed`: clone(2) for threads alone, mmap(2) and mprotect(2) without pages that can be both written and run, socket(2) as above.
/// clone3(2), whose arguments cannot be looked at, does not exist (glibc falls back to clone), nor does what is newer than our kernel headers; everything else is
/// not permitted (EPERM). Other architectures' calls end the process.
[[nodiscard]] std::vector<sock_filter> make_syscall_filter(const SyscallRules& rules);

/// For all threads of this process, for good, and for its children. no_new_privs must be set. The error is of kind `unsupported` where the kernel has no seccomp.
[[nodiscard]] Status filter_syscalls(const SyscallRules& rules);

}  // namespace limpid
