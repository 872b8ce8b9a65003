// The one line at the end: what became of the packet, and why. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "explain/evidence.h"
#include "explain/walk.h"

namespace limpid {

enum class Outcome : std::uint8_t {
  intercepted,  ///< a packet for somebody else was given to a socket of this host
  bypassed,     ///< it went on, or it was for this host anyway
  dropped,
  rejected,  ///< dropped, and the sender told
  unknown,   ///< it was given away: to a program by nfqueue, to another place by a rule
};
/// "intercepted", "bypassed", "dropped", "rejected", "unknown".
[[nodiscard]] std::string_view to_string(Outcome outcome) noexcept;

struct Verdict {
  Outcome outcome = Outcome::unknown;
  std::string reason;
  std::string instance;          ///< Limpid's that intercepted or rejected it; empty: none
  std::optional<Port> listener;  ///< with `intercepted` by an instance
};

/// `destination`: where the packet was sent to at first.
[[nodiscard]] Verdict judge(const Walk& walk, const Surroundings& surroundings, const Evidence& evidence);

/// What eBPF programs do with a packet behind netfilter, or before it; empty: they let it pass.
[[nodiscard]] std::optional<Verdict> judge_programs(const Surroundings& surroundings);

/// "instance limpid is installed by iptables-legacy, …", with the command that shows its rules.
[[nodiscard]] std::string legacy_note(const Ownership& owner, Family family);

/// "ip filter FORWARD: -p tcp -j DROP", as messages name a rule.
[[nodiscard]] std::string name_of_rule(const Step& step);

}  // namespace limpid
