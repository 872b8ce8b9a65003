// What one network namespace's kernel holds of firewall, policy rules and routes, in the words of nft and ip.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "limpid/error.h"

namespace limpid {

struct KernelSnapshot {
  std::vector<std::string> ruleset;     ///< nft list ruleset
  std::vector<std::string> ipv4_rules;  ///< ip -4 rule, and so on
  std::vector<std::string> ipv6_rules;
  std::vector<std::string> ipv4_routes;
  std::vector<std::string> ipv6_routes;

  bool operator==(const KernelSnapshot&) const = default;
  /// "0 tables, 3 + 2 rules, 8 + 11 routes" (IPv4 + IPv6).
  [[nodiscard]] std::string summary() const;
};

/// Of the calling thread's network namespace. Needs the programs nft and ip.
[[nodiscard]] Result<KernelSnapshot> take_kernel_snapshot();

/// The lines of `now` that are not in `before`.
[[nodiscard]] std::vector<std::string> added_lines(const std::vector<std::string>& before,
                                                   const std::vector<std::string>& now);

}  // namespace limpid
