// pidfd_open, pidfd_getfd and process_vm_readv: all three by thread id where the kernel can.
#include "exec/caller.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>

namespace limpid {
namespace {

// include/uapi/linux/pidfd.h, since 6.9.
constexpr unsigned kPidfdThread = O_EXCL;

constexpr std::string_view kRemedy =
    "needs CAP_SYS_PTRACE, or where its own user runs both, kernel.yama.ptrace_scope=0: run it as root";

int pidfd_open(pid_t id, unsigned flags) noexcept {
  return static_cast<int>(::syscall(SYS_pidfd_open, id, flags));
}

// The process of a thread, for kernels that open no threads. Threads that share no descriptors with their process
// (unshare(CLONE_FILES)) are served wrongly there: that process's descriptor of the same number is prepared instead.
pid_t process_of(pid_t thread) {
  std::ifstream status(fmt::format("/proc/{}/status", thread));
  for (std::string line; std::getline(status, line);) {
    pid_t process = 0;
    // NOLINTNEXTLINE(cert-err34-c): the kernel writes a number there; 0 stands for anything else
    if (std::sscanf(line.c_str(), "Tgid: %d", &process) == 1) return process;
  }
  return thread;
}

}  // namespace

Result<Caller> Caller::open(pid_t thread) {
  UniqueFd descriptor(pidfd_open(thread, kPidfdThread));
  if (!descriptor.valid() && errno == EINVAL) descriptor = UniqueFd(pidfd_open(process_of(thread), 0));
  if (!descriptor.valid()) return system_error(errno, "open process", std::to_string(thread));
  return Caller(thread, std::move(descriptor));
}

Result<UniqueFd> Caller::borrow(int descriptor) const {
  UniqueFd borrowed(static_cast<int>(::syscall(SYS_pidfd_getfd, descriptor_.get(), descriptor, 0U)));
  if (borrowed.valid()) return borrowed;
  const int code = errno;
  return system_error(code, "fetch a socket of process", std::to_string(thread_), code == EPERM ? kRemedy : "");
}

std::size_t Caller::read(std::uint64_t address, std::span<std::byte> into) const noexcept {
  const iovec local{.iov_base = into.data(), .iov_len = into.size()};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of another process, followed by the kernel only
  const iovec remote{.iov_base = reinterpret_cast<void*>(static_cast<std::uintptr_t>(address)), .iov_len = into.size()};
  const ssize_t count = ::process_vm_readv(thread_, &local, 1, &remote, 1, 0);
  return count < 0 ? 0 : static_cast<std::size_t>(count);
}

}  // namespace limpid
