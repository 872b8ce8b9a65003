// See bpf.h. The programs are a handful of instructions, written by hand (Documentation/bpf/standardization). Packets are
// read with BPF_LD|BPF_ABS, which ends the program with 0 (the packet goes on) where the frame is too short.
#include "doctor/bpf.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

namespace limpid::doctor {
namespace {

// Not in Debian 12's headers: include/uapi/linux/bpf.h of Linux 6.6.
constexpr std::uint32_t kTcxIngress = 46;
constexpr std::uint32_t kTcxEgress = 47;
constexpr int kIngressFlag = 1;  // BPF_F_INGRESS
constexpr int kTcxNext = -1;     // TCX_NEXT: the next program, then the rest of the stack

constexpr int kEthernetHeader = 14;

bpf_insn instruction(int code, int target, int source, int offset, std::int32_t immediate) {
  bpf_insn made{};
  made.code = static_cast<std::uint8_t>(code);
  made.dst_reg = static_cast<std::uint8_t>(target & 0xf);
  made.src_reg = static_cast<std::uint8_t>(source & 0xf);
  made.off = static_cast<std::int16_t>(offset);
  made.imm = immediate;
  return made;
}

bpf_insn set(int target, std::int32_t value) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_K, target, 0, 0, value);
}
bpf_insn leave() {
  return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/// Loads a program; `attach_type` only where the kernel asks for it.
Result<UniqueFd> load(std::uint32_t type, std::uint32_t attach_type, const std::vector<bpf_insn>& program,
                      std::string_view what) {
  static constexpr const char* kLicense = "Apache-2.0";
  bpf_attr attributes{};
  attributes.prog_type = type;
  attributes.expected_attach_type = attach_type;
  attributes.insns = std::bit_cast<std::uint64_t>(program.data());
  attributes.insn_cnt = static_cast<std::uint32_t>(program.size());
  attributes.license = std::bit_cast<std::uint64_t>(kLicense);
  UniqueFd loaded(static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes)));
  if (!loaded.valid()) {
    return system_error(errno, "load", what, errno == EPERM ? "needs CAP_BPF and CAP_NET_ADMIN" : "");
  }
  return loaded;
}

Result<UniqueFd> attach(const UniqueFd& program, std::uint32_t interface, std::uint32_t where) {
  bpf_attr attributes{};
  attributes.link_create.prog_fd = static_cast<std::uint32_t>(program.get());
  attributes.link_create.target_ifindex = interface;
  attributes.link_create.attach_type = where;
  UniqueFd link(static_cast<int>(::syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof attributes)));
  if (!link.valid()) return system_error(errno, "attach", "eBPF program", "tcx needs kernel 6.6 or newer");
  return link;
}

/// A program under construction, with jumps to one place behind what is written so far.
class Program {
 public:
  void add(const bpf_insn& made) { instructions_.push_back(made); }
  /// r0 becomes the big-endian number at `offset` of the frame; r6 holds the context, as BPF_ABS wants it.
  // BPF_W is 0, and so are others: they are named all the same.
  // NOLINTBEGIN(misc-redundant-expression)
  void load_word(int offset) { add(instruction(BPF_LD | BPF_ABS | BPF_W, 0, 0, 0, offset)); }
  void load_half(int offset) { add(instruction(BPF_LD | BPF_ABS | BPF_H, 0, 0, 0, offset)); }
  // NOLINTEND(misc-redundant-expression)
  /// 32-bit comparison: immediates of 64-bit ones are sign-extended.
  [[nodiscard]] std::size_t jump_if_equal(std::uint32_t value) {
    add(instruction(BPF_JMP32 | BPF_JEQ | BPF_K, 0, 0, 0, std::bit_cast<std::int32_t>(value)));
    return instructions_.size() - 1;
  }
  [[nodiscard]] std::size_t jump_if_other(std::uint32_t value) {
    add(instruction(BPF_JMP32 | BPF_JNE | BPF_K, 0, 0, 0, std::bit_cast<std::int32_t>(value)));
    return instructions_.size() - 1;
  }
  void land(const std::vector<std::size_t>& jumps) {
    for (const std::size_t jump : jumps) {
      instructions_[jump].off = static_cast<std::int16_t>(instructions_.size() - jump - 1);
    }
  }
  void redirect(std::uint32_t interface, int flags) {
    add(set(BPF_REG_1, std::bit_cast<std::int32_t>(interface)));
    add(set(BPF_REG_2, flags));
    add(instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect));
    add(leave());
  }
  void pass() {
    add(set(BPF_REG_0, kTcxNext));
    add(leave());
  }
  [[nodiscard]] const std::vector<bpf_insn>& instructions() const { return instructions_; }

 private:
  std::vector<bpf_insn> instructions_;
};

std::uint32_t word_of(const IpAddress& address, std::size_t index) {
  const auto& bytes = address.bytes();
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < 4; ++i) word = word << 8U | bytes[index * 4 + i];
  return word;
}

/// Compares sixteen bytes at `offset`; the jumps that are returned are taken where they differ.
std::vector<std::size_t> compare_ipv6(Program& program, int offset, const IpAddress& address) {
  std::vector<std::size_t> differs;
  for (std::size_t i = 0; i < 4; ++i) {
    program.load_word(offset + static_cast<int>(4 * i));
    differs.push_back(program.jump_if_other(word_of(address, i)));
  }
  return differs;
}

}  // namespace

Status try_bpf_tc() {
  const auto loaded = load(BPF_PROG_TYPE_SCHED_CLS, 0, {set(BPF_REG_0, 0), leave()}, "an eBPF program for tc");
  return loaded ? Status() : Status(std::unexpected(loaded.error()));
}

Status try_bpf_sk_lookup() {
  const auto loaded =
      load(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, {set(BPF_REG_0, 1), leave()}, "an eBPF program for socket look-ups");
  return loaded ? Status() : Status(std::unexpected(loaded.error()));
}

Result<UniqueFd> redirect_arrivals(std::uint32_t from, std::uint32_t to) {
  Program program;
  program.redirect(to, kIngressFlag);
  auto loaded = load(BPF_PROG_TYPE_SCHED_CLS, 0, program.instructions(), "the probe's eBPF program");
  if (!loaded) return loaded;
  return attach(*loaded, from, kTcxIngress);
}

Result<UniqueFd> redirect_answers(std::uint32_t from, std::uint32_t to, const IpAddress& client_ipv4,
                                  const IpAddress& client_ipv6) {
  constexpr std::uint32_t kIpv4 = 0x0800;
  constexpr std::uint32_t kArp = 0x0806;
  constexpr std::uint32_t kIpv6 = 0x86dd;
  Program program;
  program.add(instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0));
  program.load_half(12);
  const auto is_arp = program.jump_if_equal(kArp);
  const auto is_ipv6 = program.jump_if_equal(kIpv6);
  const auto is_neither = program.jump_if_other(kIpv4);
  program.load_word(kEthernetHeader + 16);
  std::vector<std::size_t> to_redirect = {program.jump_if_equal(word_of(client_ipv4, 0))};
  program.pass();
  program.land({is_arp});
  program.load_word(kEthernetHeader + 24);  // RFC 826: the target protocol address
  to_redirect.push_back(program.jump_if_equal(word_of(client_ipv4, 0)));
  program.pass();
  program.land({is_ipv6});
  const auto differs = compare_ipv6(program, kEthernetHeader + 24, client_ipv6);
  program.redirect(to, 0);
  program.land(differs);
  // A neighbour solicitation for the client goes to a multicast group; its target follows eight bytes of ICMPv6.
  const auto also_differs = compare_ipv6(program, kEthernetHeader + 40 + 8, client_ipv6);
  program.redirect(to, 0);
  program.land(also_differs);
  program.land({is_neither});
  program.pass();
  program.land(to_redirect);
  program.redirect(to, 0);
  auto loaded = load(BPF_PROG_TYPE_SCHED_CLS, 0, program.instructions(), "the probe's eBPF program");
  if (!loaded) return loaded;
  return attach(*loaded, from, kTcxEgress);
}

}  // namespace limpid::doctor
