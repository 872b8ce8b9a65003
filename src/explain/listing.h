// What nft says about chains, read back: rule handles to text, and where a chain hooks in. parse_listing() is pure; RuleBook asks nft (and
// iptables, about its own tables) for what occurs in a trace, and nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/nft_trace.h"

namespace limpid {

struct ListedRule {
  std::uint64_t handle = 0;
  std::string text;     ///< without its comment and handle
  std::string comment;  ///< may be empty
};

struct ListedChain {
  std::string hook;      ///< "prerouting", …; empty for a chain that is only jumped to
  std::string priority;  ///< as nft prints it: a number
  std::string policy;    ///< "accept" or "drop"
  std::vector<ListedRule> rules;
  [[nodiscard]] const ListedRule* find(std::uint64_t handle) const;
};

/// The chains of one table, by name.
using ListedTable = std::map<std::string, ListedChain>;

/// Reads `nft -a list table` or `list chain`. What it does not understand it passes over.
[[nodiscard]] ListedTable parse_listing(std::string_view text);

/// The rules of a chain in iptables' own words: the lines of `iptables -S CHAIN` that begin with -A, in order, without "-A CHAIN ".
[[nodiscard]] std::vector<std::string> parse_iptables_rules(std::string_view text, std::string_view chain);

/// Family and name of a table.
struct TableKey {
  std::string family;
  std::string name;
  auto operator<=>(const TableKey&) const = default;
};

/// What was found out about the tables that occur in traces.
class RuleBook {
 public:
  /// Asks about the event's chain, unless it is known already. A chain that cannot be listed is remembered as an empty one.
  void learn(const TraceEvent& event);
  /// For tests: what learn() would have found.
  void add(const TableKey& table, ListedTable listing);
  [[nodiscard]] const ListedChain* find(const TableKey& table, const std::string& chain) const;
  [[nodiscard]] const ListedTable* find(const TableKey& table) const;
  /// What could not be listed, and why, a line each.
  [[nodiscard]] const std::vector<std::string>& troubles() const noexcept { return troubles_; }

 private:
  std::map<TableKey, ListedTable> tables_;
  std::vector<std::string> troubles_;
};

}  // namespace limpid
