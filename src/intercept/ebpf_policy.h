// What a plan means for the eBPF programs: the values of their maps, and the same as text. Pure but for the numbers of cgroups, which are looked up.
#pragma once

#include <string>
#include <vector>

#include "bpf/layout.h"
#include "intercept/plan.h"
#include "limpid/error.h"

namespace limpid {

struct EbpfPolicy {
  limpid_policy policy{};
  std::vector<limpid_network> networks;  ///< of slot 0
};

/// What this backend cannot do: the error says which flag, and why.
[[nodiscard]] Status require_ebpf_can(const PlanInputs& inputs);

/// Fails where a cgroup does not exist.
[[nodiscard]] Result<EbpfPolicy> make_ebpf_policy(const PlanInputs& inputs);

/// One line for each thing: "tcp 80,443", "excluded 10.0.0.0/8". In a fixed order, to compare.
[[nodiscard]] std::vector<std::string> to_lines(const EbpfPolicy& policy);
/// The same of a plan, with the paths of cgroups instead of their numbers.
[[nodiscard]] std::vector<std::string> ebpf_policy_lines(const PlanInputs& inputs);

/// What is intercepted, read back.
[[nodiscard]] Scope scope_of(const EbpfPolicy& policy);

/// As the maps have it, in slot 0: IPv4 as ::ffff:a.b.c.d, in network order.
[[nodiscard]] limpid_network network_of(const Prefix& prefix, limpid_role role);

}  // namespace limpid
