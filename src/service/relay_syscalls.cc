// Grouped by who calls them. What only x86 has is looked for by the preprocessor.
#include "service/relay_syscalls.h"

#include <linux/netlink.h>
#include <sys/syscall.h>

#include <array>
#include <cstddef>

namespace limpid {
namespace {

constexpr auto kAllowed = std::to_array<unsigned>({
    // Flows: sockets, pipes, their readiness.
    SYS_accept4,
    SYS_bind,
    SYS_connect,
    SYS_listen,
    SYS_shutdown,
    SYS_socketpair,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_recvmmsg,
    SYS_read,
    SYS_readv,
    SYS_write,
    SYS_writev,
    SYS_splice,
    SYS_tee,
    SYS_pipe2,
    SYS_close,
    SYS_dup,
    SYS_dup3,
    SYS_fcntl,
    SYS_ioctl,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_ppoll,
    SYS_pselect6,
    SYS_eventfd2,
    SYS_sendfile,
#ifdef SYS_epoll_pwait2
    SYS_epoll_pwait2,
#endif
#ifdef SYS_close_range
    SYS_close_range,
#endif
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
    SYS_poll,
    SYS_select,
    SYS_pipe,
    SYS_dup2,
#endif
    // Threads, memory, time, signals: glibc.
    SYS_futex,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_setaffinity,
    SYS_gettid,
    SYS_getpid,
    SYS_getppid,
    SYS_exit,
    SYS_exit_group,
    SYS_tgkill,
    SYS_membarrier,
    SYS_rseq,
    SYS_getrandom,
    SYS_brk,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_restart_syscall,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_rt_sigpending,
    SYS_sigaltstack,
    SYS_signalfd4,
    SYS_getrusage,
    SYS_prlimit64,
    SYS_sysinfo,
    SYS_uname,
    SYS_prctl,
    SYS_set_tid_address,
    SYS_getcpu,
#ifdef SYS_arch_prctl
    SYS_arch_prctl,
    SYS_time,
#endif
#ifdef SYS_getrlimit
    SYS_getrlimit,
#endif
#ifdef SYS_riscv_flush_icache
    SYS_riscv_flush_icache,
#endif
    // A configuration that is read anew, certificates, /proc, cgroups by their numbers.
    SYS_openat,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_lseek,
    SYS_pread64,
    SYS_preadv,
    SYS_pwrite64,
    SYS_getdents64,
    SYS_readlinkat,
    SYS_getcwd,
    SYS_fadvise64,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_statfs,
    SYS_fstatfs,
    SYS_flock,
    SYS_unlinkat,
    SYS_ftruncate,
#ifdef SYS_open
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
#endif
    // Who we are; and the children that help. They are not killed: they end when their channels do, or with us.
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getgroups,
    SYS_capget,
    SYS_capset,
    SYS_wait4,
    SYS_waitid,
});

/// Of no use to any library that is in this program: whoever calls one of these has taken it over.
constexpr auto kFatal = std::to_array<unsigned>({
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_setns,
    SYS_unshare,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_quotactl,
    SYS_acct,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
#ifdef SYS_move_mount
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsmount,
    SYS_fsconfig,
    SYS_pidfd_getfd,
#endif
#ifdef SYS_iopl
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
});

/// Programs, maps and their pins.
constexpr auto kPrograms = std::to_array<unsigned>({
    SYS_bpf,
    SYS_mkdirat,
    SYS_renameat2,
    SYS_fchmodat,
#ifdef SYS_mkdir
    SYS_mkdir,
    SYS_rmdir,
    SYS_unlink,
    SYS_rename,
#endif
});

template <std::size_t One, std::size_t Other>
constexpr std::array<unsigned, One + Other> joined(const std::array<unsigned, One>& one,
                                                   const std::array<unsigned, Other>& other) {
  std::array<unsigned, One + Other> all{};
  for (std::size_t i = 0; i < One; ++i) all.at(i) = one.at(i);
  for (std::size_t i = 0; i < Other; ++i) all.at(One + i) = other.at(i);
  return all;
}

constexpr auto kAllowedWithPrograms = joined(kAllowed, kPrograms);

constexpr auto kProtocols = std::to_array<unsigned>({NETLINK_ROUTE, NETLINK_SOCK_DIAG});
constexpr auto kProtocolsWithPrograms = std::to_array<unsigned>({NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER});

}  // namespace

SyscallRules relay_syscalls(bool handles_programs) noexcept {
  if (handles_programs)
    return {.allowed = kAllowedWithPrograms, .fatal = kFatal, .netlink_protocols = kProtocolsWithPrograms};
  return {.allowed = kAllowed, .fatal = kFatal, .netlink_protocols = kProtocols};
}

}  // namespace limpid
