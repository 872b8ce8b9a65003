// Finds and removes what is in the kernel under our tag, without a plan: out of the comment on table or chains, and our protocol
// number.
#pragma once

#include <string>
#include <vector>

#include "intercept/ebpf.h"
#include "intercept/plan.h"
#include "intercept/xtables.h"
#include "limpid/error.h"

namespace limpid {

/// What there is to remove, as a value.
struct Removal {
  std::vector<NftTableName> tables;
  std::vector<XtablesPiece> xtables;
  std::vector<EbpfInstallation> ebpf;
  std::vector<RuleSpec> rules;
  std::vector<RouteSpec> routes;
  std::vector<SysctlChange> sysctls;
  /// One line for each thing: "nft table inet limpid", "ip -4 rule …".
  [[nodiscard]] std::vector<std::string> lines() const;
};

/// What remove_installation() would remove. The caller holds lock_planning(), or what another process is just
/// installing looks like an orphan.
[[nodiscard]] Result<Removal> find_removal(const std::string& name);

/// Takes away the chains of an instance that an iptables holds, and the jumps to them.
[[nodiscard]] Status remove_xtables(const std::string& name, Backend backend);
/// Takes away what other backends have left under the name of what is installed now.
[[nodiscard]] Status remove_others(const Ownership& installed);

/// Removes rules and routes that carry our protocol number but belong to nothing of ours in the kernel: what a crash
/// between two steps of an installation leaves. The caller holds lock_planning().
[[nodiscard]] Status reap_orphans();

}  // namespace limpid
