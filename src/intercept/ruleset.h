// The whole nftables ruleset of this network namespace, everybody's, as values: base chains and rules. Read by those who
// look for what disturbs an interception; never changed. Rules of iptables-nft are in it too, their matches opaque.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"

namespace limpid {

struct NftChain {
  std::string family;  ///< "ip", "ip6", "inet", …
  std::string table;
  std::string name;
  std::string hook;  ///< "prerouting", "input", …; empty for a chain that others jump to
  int priority = 0;
  bool drops_by_policy = false;
};

struct NftRule {
  std::string family;
  std::string table;
  std::string chain;
  std::uint64_t handle = 0;
  std::string comment;
  nlohmann::json expression = nlohmann::json::array();  ///< libnftables-json(5)
};

struct Ruleset {
  std::vector<NftChain> chains;
  std::vector<NftRule> rules;  ///< in order within each chain
};

/// A text in an object; empty where there is none.
[[nodiscard]] std::string text_of(const nlohmann::json& object, const char* key);

/// Out of what `nft -j list ruleset` prints. Entries of an unknown shape are passed over.
[[nodiscard]] Result<Ruleset> parse_ruleset(std::string_view json);

/// Everybody's tables. A newer program's sets can crash an older nft: that is an error like another.
[[nodiscard]] Result<Ruleset> read_ruleset();

}  // namespace limpid
