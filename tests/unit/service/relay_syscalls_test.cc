// The list of the process that relays: what it must never have on it.
#include "service/relay_syscalls.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

namespace limpid {
namespace {

bool has(std::span<const unsigned> list, unsigned one) {
  return std::ranges::find(list, one) != list.end();
}

TEST(RelaySyscalls, nothing_is_both_allowed_and_fatal) {
  for (const bool programs : {false, true}) {
    const SyscallRules rules = relay_syscalls(programs);
    for (const unsigned call : rules.allowed) EXPECT_FALSE(has(rules.fatal, call)) << call;
  }
}

TEST(RelaySyscalls, no_program_is_run_and_nobody_else_is_touched) {
  const SyscallRules rules = relay_syscalls(/*handles_programs=*/true);
  for (const unsigned call : std::to_array<unsigned>(
           {SYS_execve, SYS_execveat, SYS_ptrace, SYS_mount, SYS_unshare, SYS_setns, SYS_init_module})) {
    EXPECT_TRUE(has(rules.fatal, call)) << call;
  }
  for (const unsigned call : std::to_array<unsigned>({SYS_kill, SYS_setuid, SYS_setgid, SYS_socket, SYS_clone})) {
    EXPECT_FALSE(has(rules.allowed, call)) << call;
  }
}

TEST(RelaySyscalls, programs_of_the_kernel_only_for_cut_through) {
  EXPECT_FALSE(has(relay_syscalls(false).allowed, SYS_bpf));
  EXPECT_TRUE(has(relay_syscalls(true).allowed, SYS_bpf));
  EXPECT_FALSE(has(relay_syscalls(false).netlink_protocols, NETLINK_NETFILTER));
}

}  // namespace
}  // namespace limpid
