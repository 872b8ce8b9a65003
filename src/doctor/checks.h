// The checks, one function for each group: facts in, findings out. Those of the first block are pure; the ones below them
// try things out, in throw-away network namespaces of their own.
#pragma once

#include "doctor/facts.h"
#include "doctor/finding.h"

namespace limpid::doctor {

[[nodiscard]] Findings check_installation(const Facts& facts);  ///< what is there, drift, left-overs
[[nodiscard]] Findings check_listener(const Facts& facts);
[[nodiscard]] Findings check_routing(const Facts& facts);  ///< foreign users of our numbers, networkd, return path, MTU
/// The part of check_routing() that is about the marks of hand-made TPROXY set-ups.
[[nodiscard]] Findings check_delivery(const Facts& facts);
[[nodiscard]] Findings check_sysctls(const Facts& facts);
[[nodiscard]] Findings check_firewall(const Facts& facts);
/// The part of check_firewall() that is about hand-made TPROXY set-ups.
[[nodiscard]] Findings check_handmade(const Facts& facts);
/// What the processes of running instances hold, and whether it is more than they need.
[[nodiscard]] Findings check_processes(const Facts& facts);
[[nodiscard]] Findings check_limits(const Facts& facts);

[[nodiscard]] Findings try_privileges();
/// Each kind of match and target, protocol and family with real packets.
[[nodiscard]] Findings try_kernel();

}  // namespace limpid::doctor
