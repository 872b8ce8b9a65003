// The table of calling conventions, and the classic BPF that is made of it.
//
// A processor offers several conventions, each with numbers of its own: x86-64 also runs x32 (the same architecture,
// bit 30 of the number set) and i386 (another one, also reachable from a 64-bit program by int 0x80). A filter that
// asked for the number alone would take i386's connect for another call and miss others (seccomp(2), "it is very
// important to check arch"). One block for each convention:
//
//   load architecture; another one: skip the block
//   load number; a call of ours: notify
//
// Behind the last block everything is allowed. The kernel finds out by itself that most numbers are always allowed and
// skips the filter for them (kernel/seccomp.c, seccomp_cache_prepare, since 5.11), so that other calls cost nothing.
#include "exec/filter.h"

#include <linux/audit.h>
#include <linux/net.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <span>

namespace limpid {
namespace {

constexpr std::uint32_t kNone = 0xffffffff;

struct Convention {
  std::uint32_t architecture = 0;
  bool has_wide_words = true;
  std::uint32_t bind = kNone;
  std::uint32_t listen = kNone;
  std::uint32_t connect = kNone;
  std::uint32_t sendto = kNone;
  std::uint32_t sendmsg = kNone;
  std::uint32_t sendmmsg = kNone;
  std::uint32_t setsockopt = kNone;
  std::uint32_t io_uring_setup = kNone;
  std::uint32_t socketcall = kNone;
};

// The numbers of the foreign conventions: arch/x86/entry/syscalls/syscall_{64,32}.tbl, arch/arm/tools/syscall.tbl.
#if defined(__x86_64__)
constexpr std::uint32_t kX32 = 0x40000000;
constexpr std::array kConventions{
    Convention{.architecture = AUDIT_ARCH_X86_64,
               .has_wide_words = true,
               .bind = SYS_bind,
               .listen = SYS_listen,
               .connect = SYS_connect,
               .sendto = SYS_sendto,
               .sendmsg = SYS_sendmsg,
               .sendmmsg = SYS_sendmmsg,
               .setsockopt = SYS_setsockopt,
               .io_uring_setup = SYS_io_uring_setup},
    Convention{.architecture = AUDIT_ARCH_X86_64,
               .has_wide_words = false,
               .bind = kX32 | 49U,
               .listen = kX32 | 50U,
               .connect = kX32 | 42U,
               .sendto = kX32 | 44U,
               .sendmsg = kX32 | 518U,
               .sendmmsg = kX32 | 538U,
               .setsockopt = kX32 | 541U,
               .io_uring_setup = kX32 | 425U},
    Convention{.architecture = AUDIT_ARCH_I386,
               .has_wide_words = false,
               .bind = 361,
               .listen = 363,
               .connect = 362,
               .sendto = 369,
               .sendmsg = 370,
               .sendmmsg = 345,
               .setsockopt = 366,
               .io_uring_setup = 425,
               .socketcall = 102},
};
#elif defined(__aarch64__)
constexpr std::array kConventions{
    Convention{.architecture = AUDIT_ARCH_AARCH64,
               .has_wide_words = true,
               .bind = SYS_bind,
               .listen = SYS_listen,
               .connect = SYS_connect,
               .sendto = SYS_sendto,
               .sendmsg = SYS_sendmsg,
               .sendmmsg = SYS_sendmmsg,
               .setsockopt = SYS_setsockopt,
               .io_uring_setup = SYS_io_uring_setup},
    Convention{.architecture = AUDIT_ARCH_ARM,
               .has_wide_words = false,
               .bind = 282,
               .listen = 284,
               .connect = 283,
               .sendto = 290,
               .sendmsg = 296,
               .sendmmsg = 374,
               .setsockopt = 294,
               .io_uring_setup = 425},
};
#elif defined(__riscv) && __riscv_xlen == 64
constexpr std::array kConventions{
    Convention{.architecture = AUDIT_ARCH_RISCV64,
               .has_wide_words = true,
               .bind = SYS_bind,
               .listen = SYS_listen,
               .connect = SYS_connect,
               .sendto = SYS_sendto,
               .sendmsg = SYS_sendmsg,
               .sendmmsg = SYS_sendmmsg,
               .setsockopt = SYS_setsockopt,
               .io_uring_setup = SYS_io_uring_setup},
};
#else
#error "limpid exec: add the system call numbers of this architecture"
#endif

// The low half of an argument comes first on the little-endian machines above.
constexpr std::uint32_t low_half(unsigned argument) noexcept {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + argument * sizeof(std::uint64_t));
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

constexpr sock_filter statement(unsigned code, std::uint32_t operand) noexcept {
  return {.code = static_cast<std::uint16_t>(code), .jt = 0, .jf = 0, .k = operand};
}
constexpr sock_filter load(std::uint32_t offset) noexcept {
  return statement(BPF_LD | BPF_W | BPF_ABS, offset);
}
constexpr sock_filter give(std::uint32_t action) noexcept {
  return statement(BPF_RET | BPF_K, action);
}
/// Goes on when equal, skips `count` instructions otherwise.
constexpr sock_filter unless_equal_skip(std::uint32_t value, std::size_t count) noexcept {
  return {.code = BPF_JMP | BPF_JEQ | BPF_K, .jt = 0, .jf = static_cast<std::uint8_t>(count), .k = value};
}
/// The reverse.
constexpr sock_filter if_equal_skip(std::uint32_t value, std::size_t count) noexcept {
  return {.code = BPF_JMP | BPF_JEQ | BPF_K, .jt = static_cast<std::uint8_t>(count), .jf = 0, .k = value};
}

using Code = std::vector<sock_filter>;

void append(Code& code, std::span<const sock_filter> more) {
  code.insert(code.end(), more.begin(), more.end());
}

void on_number(Code& code, std::uint32_t number, std::uint32_t action) {
  if (number == kNone) return;
  append(code, std::array{unless_equal_skip(number, 1), give(action)});
}

// Only with an address: send(2) is sendto(2) without one.
void on_sendto_address(Code& code, std::uint32_t number) {
  constexpr unsigned kAddress = 4;
  append(code, std::array{unless_equal_skip(number, 6), load(low_half(kAddress)), unless_equal_skip(0, 2),
                          load(low_half(kAddress) + 4), if_equal_skip(0, 1), give(SECCOMP_RET_USER_NOTIF),
                          give(SECCOMP_RET_ALLOW)});
}

void on_fast_open(Code& code, std::uint32_t number, unsigned flags_argument) {
  append(code, std::array{unless_equal_skip(number, 4), load(low_half(flags_argument)),
                          sock_filter{.code = BPF_JMP | BPF_JSET | BPF_K, .jt = 0, .jf = 1, .k = MSG_FASTOPEN},
                          give(SECCOMP_RET_USER_NOTIF), give(SECCOMP_RET_ALLOW)});
}

// A program that asks for it itself, and may lack the privilege.
void on_transparency(Code& code, std::uint32_t number) {
  constexpr unsigned kLevel = 1;
  constexpr unsigned kOption = 2;
  append(code,
         std::array{unless_equal_skip(number, 11), load(low_half(kLevel)),
                    // level IP
                    unless_equal_skip(SOL_IP, 4), load(low_half(kOption)), unless_equal_skip(IP_TRANSPARENT, 1),
                    give(SECCOMP_RET_USER_NOTIF), give(SECCOMP_RET_ALLOW),
                    // level IPv6
                    unless_equal_skip(SOL_IPV6, 3), load(low_half(kOption)), unless_equal_skip(IPV6_TRANSPARENT, 1),
                    give(SECCOMP_RET_USER_NOTIF), give(SECCOMP_RET_ALLOW)});
}

// The calls that send are notified if any of them matters, because their flags are in memory.
void on_socketcall(Code& code, std::uint32_t number, const NotifiedCalls& wanted) {
  if (number == kNone) return;
  Code inner{load(low_half(0))};
  const auto notify = [&inner](int call) {
    on_number(inner, static_cast<std::uint32_t>(call), SECCOMP_RET_USER_NOTIF);
  };
  notify(SYS_CONNECT);
  if (wanted.bind_and_listen) {
    for (const auto call : {SYS_BIND, SYS_LISTEN}) notify(call);
  }
  if (wanted.sends != NotifiedSends::none) {
    for (const auto call : {SYS_SENDTO, SYS_SENDMSG, SYS_SENDMMSG}) notify(call);
  }
  inner.push_back(give(SECCOMP_RET_ALLOW));
  code.push_back(unless_equal_skip(number, inner.size()));
  append(code, inner);
}

Code block_for(const Convention& convention, const NotifiedCalls& wanted) {
  Code code{load(offsetof(seccomp_data, nr))};
  on_number(code, convention.connect, SECCOMP_RET_USER_NOTIF);
  if (wanted.bind_and_listen) {
    on_number(code, convention.bind, SECCOMP_RET_USER_NOTIF);
    on_number(code, convention.listen, SECCOMP_RET_USER_NOTIF);
  }
  switch (wanted.sends) {
    case NotifiedSends::none: break;
    case NotifiedSends::fast_open:
      on_fast_open(code, convention.sendto, 3);
      on_fast_open(code, convention.sendmsg, 2);
      on_fast_open(code, convention.sendmmsg, 3);
      break;
    case NotifiedSends::all:
      on_sendto_address(code, convention.sendto);
      on_number(code, convention.sendmsg, SECCOMP_RET_USER_NOTIF);
      on_number(code, convention.sendmmsg, SECCOMP_RET_USER_NOTIF);
      break;
  }
  if (wanted.transparency) on_transparency(code, convention.setsockopt);
  // Its operations bind and connect where no filter sees them; programs that find none use the calls above.
  on_number(code, convention.io_uring_setup, SECCOMP_RET_ERRNO | ENOSYS);
  on_socketcall(code, convention.socketcall, wanted);
  return code;
}

const Convention* find_convention(const seccomp_data& data) noexcept {
  const auto number = static_cast<std::uint32_t>(data.nr);
  for (const auto& convention : kConventions) {
    if (convention.architecture != data.arch) continue;
    for (const auto own : {convention.bind, convention.listen, convention.connect, convention.sendto,
                           convention.sendmsg, convention.sendmmsg, convention.setsockopt, convention.socketcall}) {
      if (own == number) return &convention;
    }
  }
  return nullptr;
}

ProgramCall with_arguments(SocketCall call, std::span<const __u64, kIndirectWords> words) noexcept {
  ProgramCall result{.call = call, .fd = static_cast<int>(words[0])};
  switch (call) {
    case SocketCall::bind:
    case SocketCall::connect:
      result.address = words[1];
      result.address_length = static_cast<std::uint32_t>(words[2]);
      break;
    case SocketCall::sendto:
      result.address = words[4];
      result.address_length = static_cast<std::uint32_t>(words[5]);
      break;
    case SocketCall::sendmsg:
    case SocketCall::sendmmsg: result.address = words[1]; break;
    case SocketCall::setsockopt:
      result.address = words[3];
      result.address_length = static_cast<std::uint32_t>(words[4]);
      break;
    case SocketCall::listen: break;
  }
  return result;
}

}  // namespace

std::vector<sock_filter> make_filter(const NotifiedCalls& wanted) {
  Code code;
  for (const auto& convention : kConventions) {
    const Code block = block_for(convention, wanted);
    code.push_back(load(offsetof(seccomp_data, arch)));
    code.push_back(unless_equal_skip(convention.architecture, block.size()));
    append(code, block);
  }
  code.push_back(give(SECCOMP_RET_ALLOW));
  return code;
}

std::optional<ProgramCall> find_call(const seccomp_data& data) noexcept {
  const Convention* convention = find_convention(data);
  if (convention == nullptr) return std::nullopt;
  const auto number = static_cast<std::uint32_t>(data.nr);
  std::optional<SocketCall> call;
  if (number == convention->bind) call = SocketCall::bind;
  if (number == convention->listen) call = SocketCall::listen;
  if (number == convention->connect) call = SocketCall::connect;
  if (number == convention->sendto) call = SocketCall::sendto;
  if (number == convention->sendmsg) call = SocketCall::sendmsg;
  if (number == convention->sendmmsg) call = SocketCall::sendmmsg;
  if (number == convention->setsockopt) call = SocketCall::setsockopt;
  if (!call) return std::nullopt;
  ProgramCall result = with_arguments(*call, data.args);
  result.has_wide_words = convention->has_wide_words;
  return result;
}

std::optional<IndirectCall> find_indirect_call(const seccomp_data& data) noexcept {
  const Convention* convention = find_convention(data);
  if (convention == nullptr || static_cast<std::uint32_t>(data.nr) != convention->socketcall) return std::nullopt;
  const auto indirect = [&data](SocketCall call) { return IndirectCall{.call = call, .words = data.args[1]}; };
  switch (static_cast<int>(data.args[0])) {
    case SYS_BIND: return indirect(SocketCall::bind);
    case SYS_LISTEN: return indirect(SocketCall::listen);
    case SYS_CONNECT: return indirect(SocketCall::connect);
    case SYS_SENDTO: return indirect(SocketCall::sendto);
    case SYS_SENDMSG: return indirect(SocketCall::sendmsg);
    case SYS_SENDMMSG: return indirect(SocketCall::sendmmsg);
    default: return std::nullopt;
  }
}

ProgramCall resolve_indirect_call(const IndirectCall& indirect,
                                  const std::array<std::uint32_t, kIndirectWords>& words) noexcept {
  std::array<__u64, kIndirectWords> wide{};
  for (std::size_t i = 0; i < words.size(); ++i) wide[i] = words[i];
  ProgramCall result = with_arguments(indirect.call, wide);
  result.has_wide_words = false;
  return result;
}

}  // namespace limpid
