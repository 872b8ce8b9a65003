// The system calls of the process that relays, as a list: what our code and the libraries call, held against the end-to-end tests, all of which run with the filter at work. A call
// that is missing here fails with EPERM.
#pragma once

#include "base/syscall_filter.h"

namespace limpid {

/// `handles_programs`: it also loads eBPF programs and their maps, and hears of changes of nftables (cut-through).
[[nodiscard]] SyscallRules relay_syscalls(bool handles_programs) noexcept;

}  // namespace limpid
