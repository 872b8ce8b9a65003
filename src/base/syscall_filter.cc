// The kernel runs the program once for each call number whose fate needs no look at arguments, and remembers the answer (since 5.11: kernel/seccomp.c,
// seccomp_cache_prepare), so the length of the list costs nothing on the hot path.
#include "base/syscall_filter.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <utility>

namespace limpid {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#elif defined(__riscv) && __riscv_xlen == 64
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_RISCV64;
#else
constexpr std::uint32_t kArchitecture = 0;  ///< none that anybody has tried
#endif

/// The newest that our headers know; the numbers of new ones are the same everywhere since 5.1.
#ifdef SYS_landlock_restrict_self
constexpr unsigned kNewest = SYS_landlock_restrict_self;
#else
constexpr unsigned kNewest = SYS_clone3;
#endif

constexpr std::uint32_t not_permitted() {
  return SECCOMP_RET_ERRNO | EPERM;
}
constexpr std::uint32_t not_there() {
  return SECCOMP_RET_ERRNO | ENOSYS;
}

/// Where the low half of an argument lies: the only one that these calls look at.
constexpr std::uint32_t argument(unsigned number) {
  const std::size_t low = std::endian::native == std::endian::little ? 0 : sizeof(std::uint32_t);
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + number * sizeof(std::uint64_t) + low);
}

class Program {
 public:
  void load(std::uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset); }
  void mask(std::uint32_t bits) { add(BPF_ALU | BPF_AND | BPF_K, bits); }
  void answer(std::uint32_t verdict) { add(BPF_RET | BPF_K, verdict); }
  void if_equal(std::uint32_t value, std::uint32_t verdict) { jump(BPF_JEQ, value, verdict); }
  void if_at_least(std::uint32_t value, std::uint32_t verdict) { jump(BPF_JGE, value, verdict); }
  void if_any_of(std::uint32_t bits, std::uint32_t verdict) { jump(BPF_JSET, bits, verdict); }
  void unless_equal(std::uint32_t value, std::uint32_t verdict) {
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0));
    answer(verdict);
  }
  /// What `body` adds is for this call alone; it must end with an answer.
  template <class Body>
  void for_call(unsigned number, Body body) {
    const std::size_t place = code_.size();
    code_.push_back({});
    body();
    code_[place] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, static_cast<std::uint8_t>(code_.size() - place - 1));
  }
  [[nodiscard]] std::vector<sock_filter> take() { return std::move(code_); }

 private:
  void add(unsigned operation, std::uint32_t value) {
    code_.push_back(BPF_STMT(static_cast<std::uint16_t>(operation), value));
  }
  void jump(unsigned condition, std::uint32_t value, std::uint32_t verdict) {
    code_.push_back(BPF_JUMP(static_cast<std::uint16_t>(BPF_JMP | condition | BPF_K), value, 0, 1));
    answer(verdict);
  }
  std::vector<sock_filter> code_;
};

void add_socket(Program& program, std::span<const unsigned> netlink_protocols) {
  program.for_call(SYS_socket, [&] {
    program.load(argument(0));
    for (const std::uint32_t family : {std::uint32_t{AF_INET}, std::uint32_t{AF_INET6}, std::uint32_t{AF_UNIX}})
      program.if_equal(family, SECCOMP_RET_ALLOW);
    program.unless_equal(AF_NETLINK, not_permitted());
    program.load(argument(2));
    for (const unsigned protocol : netlink_protocols) program.if_equal(protocol, SECCOMP_RET_ALLOW);
    program.answer(not_permitted());
  });
}

void add_memory(Program& program) {
  program.for_call(SYS_mmap, [&] {
    program.load(argument(2));
    program.mask(PROT_WRITE | PROT_EXEC);
    program.if_equal(PROT_WRITE | PROT_EXEC, not_permitted());
    program.answer(SECCOMP_RET_ALLOW);
  });
  program.for_call(SYS_mprotect, [&] {
    program.load(argument(2));
    program.if_any_of(PROT_EXEC, not_permitted());
    program.answer(SECCOMP_RET_ALLOW);
  });
}

void add_threads(Program& program) {
  program.for_call(SYS_clone, [&] {
    program.load(argument(0));
    program.mask(CLONE_THREAD | CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC |
                 CLONE_NEWUTS | CLONE_NEWCGROUP);
    program.unless_equal(CLONE_THREAD, not_permitted());
    program.answer(SECCOMP_RET_ALLOW);
  });
  program.for_call(SYS_clone3, [&] { program.answer(not_there()); });
}

}  // namespace

std::vector<sock_filter> make_syscall_filter(const SyscallRules& rules) {
  Program program;
  program.load(offsetof(seccomp_data, arch));
  program.unless_equal(kArchitecture, SECCOMP_RET_KILL_PROCESS);
  const auto load_number = [&] { program.load(offsetof(seccomp_data, nr)); };
  load_number();
#if defined(__x86_64__)
  constexpr std::uint32_t kX32 = 0x40000000;  // __X32_SYSCALL_BIT
  program.if_at_least(kX32, SECCOMP_RET_KILL_PROCESS);
#endif
  for (const unsigned call : rules.allowed) program.if_equal(call, SECCOMP_RET_ALLOW);
  for (const unsigned call : rules.fatal) program.if_equal(call, SECCOMP_RET_KILL_PROCESS);
  add_socket(program, rules.netlink_protocols);
  add_memory(program);
  add_threads(program);
  program.if_at_least(kNewest + 1, not_there());
  program.answer(not_permitted());
  return program.take();
}

Status filter_syscalls(const SyscallRules& rules) {
  if (kArchitecture == 0) return unsupported("filter", "system calls", "there is no list for this architecture");
  auto code = make_syscall_filter(rules);
  const sock_fprog program{.len = static_cast<unsigned short>(code.size()), .filter = code.data()};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0) return {};
  if (errno == ENOSYS || errno == EINVAL)
    return unsupported("filter", "system calls", "this kernel has no seccomp filters", "CONFIG_SECCOMP_FILTER");
  return system_error(errno, "filter", "system calls");
}

}  // namespace limpid
