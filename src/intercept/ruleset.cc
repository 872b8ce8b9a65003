// See ruleset.h. What nft prints was written by whoever has loaded rules here, so nothing about its shape is believed.
#include "intercept/ruleset.h"

#include <utility>

#include "intercept/nft.h"

namespace limpid {

using nlohmann::json;

std::string text_of(const json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<Ruleset> parse_ruleset(std::string_view text) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object() || !document.contains("nftables") || !document["nftables"].is_array()) {
    return failure("read", "the nft ruleset", "nft printed something else than its JSON");
  }
  Ruleset ruleset;
  for (const json& entry : document["nftables"]) {
    if (!entry.is_object()) continue;
    if (const auto chain = entry.find("chain"); chain != entry.end() && chain->is_object()) {
      const auto priority = chain->find("prio");
      ruleset.chains.push_back(
          {.family = text_of(*chain, "family"),
           .table = text_of(*chain, "table"),
           .name = text_of(*chain, "name"),
           .hook = text_of(*chain, "hook"),
           .priority = priority != chain->end() && priority->is_number_integer() ? priority->get<int>() : 0,
           .drops_by_policy = text_of(*chain, "policy") == "drop"});
    }
    if (const auto rule = entry.find("rule"); rule != entry.end() && rule->is_object()) {
      const auto handle = rule->find("handle");
      const auto expression = rule->find("expr");
      ruleset.rules.push_back(
          {.family = text_of(*rule, "family"),
           .table = text_of(*rule, "table"),
           .chain = text_of(*rule, "chain"),
           .handle = handle != rule->end() && handle->is_number_unsigned() ? handle->get<std::uint64_t>() : 0,
           .comment = text_of(*rule, "comment"),
           .expression = expression != rule->end() && expression->is_array() ? *expression : json::array()});
    }
  }
  return ruleset;
}

Result<Ruleset> read_ruleset() {
  auto text = list_nft_ruleset();
  if (!text) return std::unexpected(text.error());
  return parse_ruleset(*text);
}

}  // namespace limpid
