// Attaches programs to interfaces, and finds those that are: by tcx where the kernel has it (6.6), else by a filter at a clsact qdisc. Both outlive
// the process that attached them. Knows no policy.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"
#include "net/netlink.h"

namespace limpid {

enum class TrafficSide : std::uint8_t { ingress, egress };
enum class AttachMode : std::uint8_t { tcx, clsact };

// Here, for builds without eBPF, which have the words without the deeds.
[[nodiscard]] constexpr std::string_view to_string(TrafficSide side) {
  return side == TrafficSide::ingress ? "ingress" : "egress";
}
[[nodiscard]] constexpr std::string_view to_string(AttachMode mode) {
  return mode == AttachMode::tcx ? "tcx" : "clsact";
}

struct Attachment {
  int link = 0;
  TrafficSide side = TrafficSide::ingress;
  AttachMode mode = AttachMode::tcx;
  std::uint32_t program = 0;   ///< its number
  std::uint32_t priority = 0;  ///< of a filter
  std::uint32_t handle = 0;    ///< of a filter
  bool operator==(const Attachment&) const = default;
};

/// Linux 6.6 has it.
[[nodiscard]] bool has_tcx();
/// tcx unless the kernel lacks it, or $LIMPID_EBPF_ATTACH says clsact.
[[nodiscard]] AttachMode preferred_attach_mode();

/// Everybody's programs on one interface. Nothing for those who may not look.
[[nodiscard]] Result<std::vector<Attachment>> find_attachments(int link);

/// Interfaces on which packets of IP arrive: neither the ports of a bridge nor of a bond. `with_loopback`: lo too.
[[nodiscard]] std::vector<LinkInfo> links_for_programs(const std::vector<LinkInfo>& links, bool with_loopback);

/// Those of them whose program has one of these names.
[[nodiscard]] std::vector<Attachment> with_names(const std::vector<Attachment>& attachments,
                                                 std::initializer_list<std::string_view> names);

/// Before all others, or right behind program `behind` (0: none). In place of `replaced`, without a moment in which neither is there.
/// `filter_priority`: for clsact, where it alone decides the order.
[[nodiscard]] Status attach_program(int program_fd, int link, TrafficSide side, AttachMode mode,
                                    std::uint32_t filter_priority, const Attachment* replaced,
                                    std::uint32_t behind = 0);
[[nodiscard]] Status detach_program(const Attachment& attachment);

/// Makes the qdisc; says whether there was none before.
[[nodiscard]] Result<bool> require_clsact(int link);
/// Takes it away unless somebody else has filters there.
[[nodiscard]] Status remove_empty_clsact(int link);

}  // namespace limpid
