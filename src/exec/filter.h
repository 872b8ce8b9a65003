// Which system calls of a program `limpid exec` wants to hear of: the seccomp filter as data, and the way back from a
// notification to the call's meaning. Pure; loading it is launch.cc's business.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace limpid {

enum class SocketCall : std::uint8_t { bind, listen, connect, sendto, sendmsg, sendmmsg };

/// A call as the program made it. The addresses are the program's own and believed in nothing.
struct ProgramCall {
  SocketCall call = SocketCall::bind;
  int fd = -1;
  std::uint64_t address = 0;         ///< bind, connect, sendto: where its struct sockaddr is; sendmsg, sendmmsg: struct msghdr
  std::uint32_t address_length = 0;  ///< of the struct sockaddr
  bool has_wide_words = true;        ///< false for a 32-bit program: its struct msghdr has four-byte pointers
};

/// i386's socketcall(2) has its arguments in memory: the reader fetches `count` four-byte words from there.
struct IndirectCall {
  SocketCall call = SocketCall::bind;
  std::uint64_t words = 0;  ///< where they are
};

/// What a filter lets through unseen, and what it does not.
struct FilterOptions {
  bool sends = false;  ///< also calls that send to an address without connecting: sendto, sendmsg, sendmmsg
};

/// The filter's program for seccomp(2): bind, listen and connect of every calling convention that this processor offers
/// are notified, io_uring_setup fails with ENOSYS, everything else is allowed.
[[nodiscard]] std::vector<sock_filter> make_filter(const FilterOptions& options);

/// The number of words that socketcall(2)'s longest call of ours has: sendto's six.
inline constexpr std::size_t kIndirectWords = 6;

/// The meaning of a notified call; nothing when it is none of ours, or an indirect one.
[[nodiscard]] std::optional<ProgramCall> find_call(const seccomp_data& data) noexcept;
/// For i386's socketcall(2).
[[nodiscard]] std::optional<IndirectCall> find_indirect_call(const seccomp_data& data) noexcept;
[[nodiscard]] ProgramCall resolve_indirect_call(const IndirectCall& indirect,
                                                const std::array<std::uint32_t, kIndirectWords>& words) noexcept;

}  // namespace limpid
