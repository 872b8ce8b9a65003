// What the rules of the iptables backend mean for a packet, in words: the sibling of words.h for the chains "limpid-…" in tables that are
// shared with others. What it does not know it leaves to the rule's own text. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "explain/listing.h"
#include "intercept/plan.h"
#include "net/nft_trace.h"

namespace limpid {

struct Step;

class XtablesWords {
 public:
  /// Fills in `words` and `decides` of a step in a chain of the instance's.
  void explain(Step& step, const RuleBook& rules, const Ownership& owner, const std::optional<TracedPacket>& packet);
  /// A chain that was entered by goto ends without a message: the step that says so, when `next` is in another's chain.
  [[nodiscard]] std::optional<Step> end_before(const Step& next, const RuleBook& rules,
                                               const std::map<std::string, Ownership>& instances,
                                               const std::optional<TracedPacket>& packet);
  /// What follows is another packet that came of the same one.
  void begin_packet() { within_.clear(); }

 private:
  std::map<TableKey, std::string> within_;     ///< the chain of ours that the packet is in
  std::map<std::string, std::string> closed_;  ///< instance to why its filter rules reject
  std::set<std::string> captured_by_;          ///< instances
};

/// Whether iptables keeps its rules in a table of this name.
[[nodiscard]] bool is_iptables_table(const TableKey& table);
/// "TCP 80,443" out of the rules of `chain` that select by port; may be empty.
[[nodiscard]] std::string xtables_ports(const ListedChain& chain, std::uint8_t protocol);

}  // namespace limpid
