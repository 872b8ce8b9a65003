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

/// setsockopt stands for the one that sets IP_TRANSPARENT or IPV6_TRANSPARENT.
enum class SocketCall : std::uint8_t { bind, listen, connect, sendto, sendmsg, sendmmsg, setsockopt };

/// A call as the program made it. The addresses are the program's own and believed in nothing.
struct ProgramCall {
  SocketCall call = SocketCall::bind;
  int fd = -1;
  std::uint64_t address = 0;  ///< of its struct sockaddr; sendmsg, sendmmsg: struct msghdr; setsockopt: the value
  std::uint32_t address_length = 0;  ///< of the struct sockaddr, or of the value
  bool has_wide_words = true;        ///< false for a 32-bit program: its struct msghdr has four-byte pointers
};

/// i386's socketcall(2) has its arguments in memory: the reader fetches `count` four-byte words from there.
struct IndirectCall {
  SocketCall call = SocketCall::bind;
  std::uint64_t words = 0;  ///< where they are
};

/// Which calls that send are notified: sendto, sendmsg and sendmmsg can give a socket its peer, and so its own address.
enum class NotifiedSends : std::uint8_t {
  none,
  fast_open,  ///< those with MSG_FASTOPEN, which connect
  all,        ///< those to an address; sendmsg and sendmmsg always, because a filter cannot see whether they name one
};

/// What is notified besides connect.
struct NotifiedCalls {
  bool bind_and_listen = true;
  bool transparency = true;  ///< a program asks for it itself
  NotifiedSends sends = NotifiedSends::none;
};

/// The filter's program for seccomp(2), for every calling convention that this processor offers. io_uring_setup fails with
/// ENOSYS; everything that is not notified is allowed.
[[nodiscard]] std::vector<sock_filter> make_filter(const NotifiedCalls& wanted);

/// The number of words that socketcall(2)'s longest call of ours has: sendto's six.
inline constexpr std::size_t kIndirectWords = 6;

/// The meaning of a notified call; nothing when it is none of ours, or an indirect one.
[[nodiscard]] std::optional<ProgramCall> find_call(const seccomp_data& data) noexcept;
/// For i386's socketcall(2).
[[nodiscard]] std::optional<IndirectCall> find_indirect_call(const seccomp_data& data) noexcept;
[[nodiscard]] ProgramCall resolve_indirect_call(const IndirectCall& indirect,
                                                const std::array<std::uint32_t, kIndirectWords>& words) noexcept;

}  // namespace limpid
