// What the rules of Limpid's own tables mean for a packet, in words. It knows the chains that src/intercept writes by their names and
// comments; what it does not know it leaves to the rule's own text. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "explain/listing.h"
#include "intercept/plan.h"
#include "net/nft_trace.h"

namespace limpid {

struct Step;

/// Follows one packet: the words about a base chain's end depend on how far the packet came in it.
class Words {
 public:
  /// Fills in `words` and `decides` of a step in a table of Limpid's.
  void explain(Step& step, const ListedTable& table, const Ownership& ownership,
               const std::optional<TracedPacket>& packet);
  /// What follows is another packet that came of the same one: through loopback, or a copy.
  void begin_packet();

 private:
  std::map<TableKey, std::string> gone_to_;  ///< the chain of the latest goto, until its base chain ends
  std::set<std::string> captured_by_;        ///< instances: what their later chains say of it means nothing new
};

/// "TCP 80,443" out of the rules that select by port; empty where there are none for that protocol.
[[nodiscard]] std::string ports_in_scope(const ListedTable& table, std::uint8_t protocol);

}  // namespace limpid
