// The system calls of the process that relays, as a list: found by strace(1) over the end-to-end tests, and completed by what glibc, libmicrohttpd and OpenSSL
// document to use. A call that is missing here fails with EPERM; tests/netns/test_least_privilege.py looks for that in everything that it starts.
#pragma once

#include "base/syscall_filter.h"

namespace limpid {

/// `handles_programs`: it also loads eBPF programs and their maps, and hears of changes of nftables (cut-through).
[[nodiscard]] SyscallRules relay_syscalls(bool handles_programs) noexcept;

}  // namespace limpid
