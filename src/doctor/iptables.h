// The rules that iptables-save prints, as values, of either variant and family. Read for what disturbs an interception
// and for hand-made TPROXY set-ups; never changed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid::doctor {

struct IptablesChain {
  std::string table;
  std::string name;
  bool drops_by_policy = false;
};

struct IptablesRule {
  std::string table;
  std::string chain;
  unsigned number = 0;             ///< from 1, as `iptables -R` counts
  std::vector<std::string> words;  ///< behind "-A CHAIN"

  [[nodiscard]] bool has(std::string_view word) const;
  /// The word behind `word`; empty where there is none.
  [[nodiscard]] std::string after(std::string_view word) const;
  /// The word behind -j or -g.
  [[nodiscard]] std::string target() const;
};

struct Iptables {
  std::string program;  ///< "iptables", "ip6tables-legacy", …: what changes these rules
  Family family = Family::ipv4;
  bool legacy = false;
  std::vector<IptablesChain> chains;
  std::vector<IptablesRule> rules;
};

/// Out of iptables-save's text. Quotes and backslashes are those of iptables-save.
void parse_iptables(std::string_view text, Iptables& tables);

/// Those of both families and both variants that have programs here and rules in them. An error where a program failed.
[[nodiscard]] Result<std::vector<Iptables>> read_iptables();

}  // namespace limpid::doctor
