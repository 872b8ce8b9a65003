// The seccomp filter, run by a slow and obvious interpreter of classic BPF: which calls are notified, in every convention.
#include "exec/filter.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/net.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>

namespace limpid {
namespace {

constexpr NotifiedCalls kEverything{.bind_and_listen = true, .transparency = true, .sends = NotifiedSends::all};
constexpr NotifiedCalls kTransparent{.bind_and_listen = true, .transparency = true, .sends = NotifiedSends::none};
constexpr NotifiedCalls kSource{.bind_and_listen = false, .transparency = false, .sends = NotifiedSends::fast_open};
constexpr std::uint32_t kInvalid = 0xdead;

seccomp_data call(std::uint32_t architecture, std::uint32_t number, std::initializer_list<__u64> arguments = {}) {
  seccomp_data data{};
  data.arch = architecture;
  data.nr = static_cast<int>(number);
  std::size_t i = 0;
  for (const auto argument : arguments) data.args[i++] = argument;
  return data;
}

// As kernel/seccomp.c and net/core/filter.c run it, for the instructions that we use; kInvalid for another one, or for a jump
// that leaves the program.
std::uint32_t interpret(const std::vector<sock_filter>& code, const seccomp_data& data) {
  std::uint32_t accumulator = 0;
  for (std::size_t at = 0; at < code.size(); ++at) {
    const sock_filter& step = code[at];
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (step.k % 4 != 0 || step.k + 4 > sizeof data) return kInvalid;
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, sizeof accumulator);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K: at += accumulator == step.k ? step.jt : step.jf; break;
      case BPF_JMP | BPF_JSET | BPF_K: at += (accumulator & step.k) != 0 ? step.jt : step.jf; break;
      case BPF_RET | BPF_K: return step.k;
      default: return kInvalid;
    }
  }
  return kInvalid;
}

std::uint32_t outcome(const NotifiedCalls& wanted, const seccomp_data& data) {
  return interpret(make_filter(wanted), data);
}

#if defined(__x86_64__)
constexpr std::uint32_t kNative = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kNative = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kNative = AUDIT_ARCH_RISCV64;
#endif

TEST(Filter, notifies_of_bind_listen_and_connect) {
  for (const auto number : {SYS_bind, SYS_listen, SYS_connect}) {
    EXPECT_EQ(outcome(kTransparent, call(kNative, static_cast<std::uint32_t>(number))), SECCOMP_RET_USER_NOTIF)
        << number;
  }
}

TEST(Filter, leaves_binding_alone_where_only_a_source_is_wanted) {
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_bind)), SECCOMP_RET_ALLOW);
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_listen)), SECCOMP_RET_ALLOW);
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_connect)), SECCOMP_RET_USER_NOTIF);
}

TEST(Filter, allows_every_other_number_of_every_architecture) {
  for (const std::uint32_t architecture : {kNative, 0U, std::uint32_t{AUDIT_ARCH_S390X}, 0xffffffffU}) {
    for (std::uint32_t number = 0; number < 1000; ++number) {
      const auto data = call(architecture, number);
      if (find_call(data).has_value() || number == SYS_io_uring_setup) continue;
      EXPECT_EQ(outcome(kEverything, data), SECCOMP_RET_ALLOW) << architecture << ' ' << number;
    }
    EXPECT_EQ(outcome(kEverything, call(architecture, 0xffffffff)), SECCOMP_RET_ALLOW);
  }
}

TEST(Filter, everything_notified_has_a_meaning) {
  for (const std::uint32_t base : {0U, 0x40000000U}) {
    for (const std::uint32_t architecture : {kNative, std::uint32_t{AUDIT_ARCH_I386}, std::uint32_t{AUDIT_ARCH_ARM}}) {
      for (std::uint32_t number = 0; number < 1000; ++number) {
        const auto data = call(architecture, base | number, {SYS_BIND, 0, 0, 0, 1, 16});
        if (outcome(kEverything, data) == SECCOMP_RET_USER_NOTIF) {
          EXPECT_TRUE(find_call(data) || find_indirect_call(data)) << architecture << ' ' << number;
        }
      }
    }
  }
}

TEST(Filter, of_all_options_only_transparency_is_notified) {
  for (const int level : {SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_TCP}) {
    for (__u64 option = 0; option < 100; ++option) {
      const auto data = call(kNative, SYS_setsockopt, {3, static_cast<__u64>(level), option, 0x9000, 4});
      const bool is_ours =
          (level == SOL_IP && option == IP_TRANSPARENT) || (level == SOL_IPV6 && option == IPV6_TRANSPARENT);
      EXPECT_EQ(outcome(kTransparent, data), is_ours ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW)
          << level << ' ' << option;
      EXPECT_EQ(outcome(kSource, data), SECCOMP_RET_ALLOW);
    }
  }
}

TEST(Filter, io_uring_is_not_there) {
  EXPECT_EQ(outcome(kTransparent, call(kNative, SYS_io_uring_setup)), SECCOMP_RET_ERRNO | ENOSYS);
}

TEST(Filter, sendto_is_notified_with_an_address_only) {
  constexpr __u64 kOnlyHighHalf = 0x700000000000;
  EXPECT_EQ(outcome(kEverything, call(kNative, SYS_sendto, {3, 1, 1, 0, 0, 0})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(outcome(kEverything, call(kNative, SYS_sendto, {3, 1, 1, 0, 8, 16})), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(outcome(kEverything, call(kNative, SYS_sendto, {3, 1, 1, 0, kOnlyHighHalf, 16})), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(outcome(kTransparent, call(kNative, SYS_sendto, {3, 1, 1, 0, 8, 16})), SECCOMP_RET_ALLOW);
}

TEST(Filter, fast_open_is_told_from_its_flag) {
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_sendto, {3, 1, 1, MSG_FASTOPEN | MSG_NOSIGNAL, 8, 16})),
            SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_sendto, {3, 1, 1, MSG_NOSIGNAL, 8, 16})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_sendmsg, {3, 1, MSG_FASTOPEN})), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_sendmsg, {3, 1, 0})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(outcome(kSource, call(kNative, SYS_sendmmsg, {3, 1, 1, MSG_FASTOPEN})), SECCOMP_RET_USER_NOTIF);
}

#if defined(__x86_64__)
TEST(Filter, i386_has_numbers_of_its_own) {
  // 42, 49 and 50 are connect, bind and listen of x86-64, and pipe, geteuid and getegid of i386.
  for (const auto number : {42U, 49U, 50U}) {
    EXPECT_EQ(outcome(kEverything, call(AUDIT_ARCH_I386, number)), SECCOMP_RET_ALLOW);
    EXPECT_FALSE(find_call(call(AUDIT_ARCH_I386, number)));
  }
  for (const auto number : {361U, 362U, 363U}) {
    EXPECT_EQ(outcome(kEverything, call(AUDIT_ARCH_I386, number)), SECCOMP_RET_USER_NOTIF);
    EXPECT_EQ(outcome(kEverything, call(AUDIT_ARCH_X86_64, number)), SECCOMP_RET_ALLOW);
  }
}

TEST(Filter, x32_has_the_same_calls_under_another_bit) {
  for (const auto number : {42U, 49U, 50U}) {
    const auto data = call(AUDIT_ARCH_X86_64, 0x40000000U | number);
    EXPECT_EQ(outcome(kTransparent, data), SECCOMP_RET_USER_NOTIF);
    ASSERT_TRUE(find_call(data));
    EXPECT_FALSE(find_call(data)->has_wide_words);
  }
}

TEST(Filter, socketcall_is_looked_into) {
  constexpr std::uint32_t kSocketcall = 102;
  for (const auto number : {SYS_BIND, SYS_CONNECT, SYS_LISTEN}) {
    const auto data = call(AUDIT_ARCH_I386, kSocketcall, {static_cast<__u64>(number), 0x8000});
    EXPECT_EQ(outcome(kTransparent, data), SECCOMP_RET_USER_NOTIF);
    const auto indirect = find_indirect_call(data);
    ASSERT_TRUE(indirect);
    EXPECT_EQ(indirect->words, 0x8000U);
  }
  for (const auto number : {SYS_SOCKET, SYS_ACCEPT, SYS_SENDTO}) {
    EXPECT_EQ(outcome(kTransparent, call(AUDIT_ARCH_I386, kSocketcall, {static_cast<__u64>(number)})),
              SECCOMP_RET_ALLOW);
  }
  EXPECT_EQ(outcome(kSource, call(AUDIT_ARCH_I386, kSocketcall, {SYS_BIND})), SECCOMP_RET_ALLOW);
}

TEST(Filter, words_of_socketcall_become_arguments) {
  const IndirectCall connect{.call = SocketCall::connect, .words = 0x8000};
  const ProgramCall direct = resolve_indirect_call(connect, {5, 0xfffffff0, 16, 0, 0, 0});
  EXPECT_EQ(direct.fd, 5);
  EXPECT_EQ(direct.address, 0xfffffff0U) << "a pointer is not negative";
  EXPECT_EQ(direct.address_length, 16U);
  EXPECT_FALSE(direct.has_wide_words);
}
#endif

TEST(Filter, arguments_of_each_call_are_found) {
  const auto sendto = find_call(call(kNative, SYS_sendto, {3, 1, 2, 0, 0x9000, 28}));
  ASSERT_TRUE(sendto);
  EXPECT_EQ(sendto->call, SocketCall::sendto);
  EXPECT_EQ(sendto->fd, 3);
  EXPECT_EQ(sendto->address, 0x9000U);
  EXPECT_EQ(sendto->address_length, 28U);
  const auto connect = find_call(call(kNative, SYS_connect, {4, 0xa000, 16}));
  ASSERT_TRUE(connect);
  EXPECT_EQ(connect->call, SocketCall::connect);
  EXPECT_EQ(connect->fd, 4);
  EXPECT_EQ(connect->address, 0xa000U);
  EXPECT_EQ(connect->address_length, 16U);
  const auto sendmsg = find_call(call(kNative, SYS_sendmsg, {6, 0xb000, 0}));
  ASSERT_TRUE(sendmsg);
  EXPECT_EQ(sendmsg->address, 0xb000U);
}

}  // namespace
}  // namespace limpid
