// Chains of others in the input hook that drop what nobody has allowed: which they are, and the rule that lets intercepted
// packets in. Pure; used by the firewall checks and by the live probe.
#pragma once

#include <string>
#include <vector>

#include "doctor/facts.h"
#include "doctor/finding.h"

namespace limpid::doctor {

/// A base chain of nftables, or a chain of iptables.
struct FirewallChain {
  std::string program;  ///< "nft", or the iptables that made it
  std::string family;   ///< "inet", "ip", "ip6"
  std::string table;
  std::string chain;

  /// "firewalld (inet firewalld filter_INPUT)", "iptables-legacy filter INPUT".
  [[nodiscard]] std::string name() const;
  [[nodiscard]] bool filters(Family packets) const;
  /// Whether it has a rule that accepts our intercept mark.
  [[nodiscard]] bool lets_in(const Facts& facts, const MarkField& mark) const;
  /// The command that puts such a rule first.
  [[nodiscard]] Remedy let_in(const MarkField& mark) const;
  /// The commands that put rules first for what IPv6 finds MAC addresses with.
  [[nodiscard]] Remedy let_neighbours_in() const;
  bool operator==(const FirewallChain&) const = default;
};

/// All of a hook at one priority, with rules or a policy: nft's base chains of `family`, and iptables-legacy's tables.
[[nodiscard]] std::vector<FirewallChain> chains_at(const Facts& facts, Family family, const std::string& hook,
                                                   int priority);

/// The priorities at which chains of others stand in a hook, in order.
[[nodiscard]] std::vector<int> priorities_of(const Facts& facts, Family family, const std::string& hook);

/// Those of the input hook that drop by policy, or end in an unconditional drop or reject.
[[nodiscard]] std::vector<FirewallChain> dropping_input_chains(const Facts& facts);

}  // namespace limpid::doctor
