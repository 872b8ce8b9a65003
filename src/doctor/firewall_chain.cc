// See firewall_chain.h. A chain that iptables-nft made shows up in nft's ruleset as well: it is named, and mended, by iptables.
#include "doctor/firewall_chain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <string_view>
#include <utility>

namespace limpid::doctor {
namespace {

using nlohmann::json;

/// Where iptables' built-in chains stand (include/uapi/linux/netfilter_ipv4.h).
struct LegacyPlace {
  std::string_view table;
  int priority;
};
constexpr std::array kLegacyPlaces = {LegacyPlace{"raw", -300}, LegacyPlace{"mangle", -150}, LegacyPlace{"filter", 0},
                                      LegacyPlace{"security", 50}};

std::string upper(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return result;
}

bool is_of(std::string_view nft_family, Family family) {
  return nft_family == "inet" || nft_family == (family == Family::ipv4 ? "ip" : "ip6");
}

bool is_own(const Facts& facts, const NftChain& chain) {
  const auto instance = instance_of(chain.table);
  return instance && std::ranges::any_of(facts.survey.installations,
                                         [&](const FoundInstallation& f) { return f.name == *instance; });
}

FirewallChain from_nft(const NftChain& chain) {
  static constexpr std::array<std::string_view, 5> kTables = {"filter", "nat", "mangle", "raw", "security"};
  const bool looks_like_iptables = chain.family != "inet" && std::ranges::find(kTables, chain.table) != kTables.end() &&
                                   chain.name == upper(chain.hook);
  std::string program = "nft";
  if (looks_like_iptables) program = chain.family == "ip" ? "iptables-nft" : "ip6tables-nft";
  return {.program = std::move(program), .family = chain.family, .table = chain.table, .chain = chain.name};
}

/// A rule without a match, or whose matches nft cannot show, is not taken for one that lets everything fall.
bool drops_everything(const NftRule& rule) {
  bool drops = false;
  for (const json& statement : rule.expression) {
    if (!statement.is_object()) return false;
    if (statement.contains("drop") || statement.contains("reject")) {
      drops = true;
    } else if (!statement.contains("counter") && !statement.contains("log") && !statement.contains("limit")) {
      return false;
    }
  }
  return drops;
}

const NftRule* last_rule_of(const Ruleset& ruleset, const NftChain& chain) {
  const NftRule* last = nullptr;
  for (const NftRule& rule : ruleset.rules) {
    if (rule.family == chain.family && rule.table == chain.table && rule.chain == chain.name) last = &rule;
  }
  return last;
}

/// `meta mark & MASK == VALUE accept`, or without a mask, that is true for our mark.
bool accepts_mark(const NftRule& rule, const MarkField& mark) {
  static const json kMark = {{"meta", {{"key", "mark"}}}};
  bool matches = false;
  bool accepts = false;
  for (const json& statement : rule.expression) {
    if (!statement.is_object()) return false;
    if (statement.contains("accept")) accepts = true;
    if (!statement.contains("match")) continue;
    const json& match = statement["match"];
    if (!match.is_object() || !match.contains("left") || !match.contains("right") || text_of(match, "op") != "==" ||
        !match["right"].is_number_unsigned()) {
      return false;  // another condition
    }
    const json& left = match["left"];
    std::uint64_t mask = 0xffffffff;
    const bool masked = left.is_object() && left.contains("&") && left["&"].is_array() && left["&"].size() == 2 &&
                        left["&"][0] == kMark && left["&"][1].is_number_unsigned();
    if (masked) mask = left["&"][1].get<std::uint64_t>();
    if (!masked && left != kMark) return false;
    matches = (mark.intercept & mask) == match["right"].get<std::uint64_t>() && (mask & ~std::uint64_t{mark.mask}) == 0;
  }
  return matches && accepts;
}

bool accepts_mark(const IptablesRule& rule, const MarkField& mark) {
  if (rule.target() != "ACCEPT") return false;
  const auto read = Mark::parse(rule.after("--mark"));
  return read && (mark.intercept & read->mask) == read->value && (read->mask & ~mark.mask) == 0;
}

}  // namespace

std::string FirewallChain::name() const {
  return program == "nft" ? fmt::format("nft chain {} {} {}", family, table, chain)
                          : fmt::format("{} {} {}", program, table, chain);
}

bool FirewallChain::filters(Family packets) const {
  return is_of(family, packets);
}

bool FirewallChain::lets_in(const Facts& facts, const MarkField& mark) const {
  if (facts.ruleset) {
    for (const NftRule& rule : facts.ruleset->rules) {
      if (rule.family == family && rule.table == table && rule.chain == chain && accepts_mark(rule, mark)) return true;
    }
  }
  for (const Iptables& tables : facts.iptables) {
    if (tables.program != program) continue;
    for (const IptablesRule& rule : tables.rules) {
      if (rule.table == table && rule.chain == chain && accepts_mark(rule, mark)) return true;
    }
  }
  return false;
}

Remedy FirewallChain::let_in(const MarkField& mark) const {
  Remedy remedy;
  if (program == "nft") {
    remedy.commands = {{"nft", "insert", "rule", family, table, chain, "meta", "mark", "and",
                        fmt::format("{:#x}", mark.mask), "==", fmt::format("{:#x}", mark.intercept), "accept"}};
  } else {
    remedy.commands = {{program, "-t", table, "-I", chain, "1", "-m", "mark", "--mark",
                        mark.intercept_mark().to_string(), "-j", "ACCEPT"}};
  }
  remedy.safe = true;
  remedy.advice = table == "firewalld"
                      ? "until firewalld reloads: it cannot match marks itself; for good, allow the ports in the zone "
                        "of the clients "
                        "(firewall-cmd --permanent --zone=ZONE --add-port=PORT/tcp), or run this after each reload"
                      : "and in the firewall's own configuration, so that it stays; pin the mark with --mark";
  return remedy;
}

Remedy FirewallChain::let_neighbours_in() const {
  Remedy remedy;
  if (program == "nft") {
    remedy.commands = {{"nft", "insert", "rule", family, table, chain, "icmpv6", "type",
                        "{ nd-neighbor-solicit, nd-neighbor-advert }", "accept"}};
  } else {
    for (const char* type : {"135", "136"}) {  // RFC 4861: solicitation and advertisement
      remedy.commands.push_back(
          {program, "-t", table, "-I", chain, "1", "-p", "ipv6-icmp", "--icmpv6-type", type, "-j", "ACCEPT"});
    }
  }
  remedy.safe = true;
  remedy.advice = "and in the firewall's own configuration, so that it stays; RFC 4890 says what IPv6 needs";
  return remedy;
}

std::vector<FirewallChain> chains_at(const Facts& facts, Family family, const std::string& hook, int priority) {
  std::vector<FirewallChain> found;
  if (facts.ruleset) {
    for (const NftChain& chain : facts.ruleset->chains) {
      if (chain.hook == hook && chain.priority == priority && is_of(chain.family, family) && !is_own(facts, chain)) {
        found.push_back(from_nft(chain));
      }
    }
  }
  for (const LegacyPlace& place : kLegacyPlaces) {
    if (place.priority != priority) continue;
    for (const Iptables& tables : facts.iptables) {
      if (!tables.legacy || tables.family != family) continue;
      for (const IptablesChain& chain : tables.chains) {
        if (chain.table != place.table || chain.name != upper(hook)) continue;
        found.push_back({.program = tables.program,
                         .family = family == Family::ipv4 ? "ip" : "ip6",
                         .table = chain.table,
                         .chain = chain.name});
      }
    }
  }
  return found;
}

std::vector<int> priorities_of(const Facts& facts, Family family, const std::string& hook) {
  std::set<int> priorities;
  if (facts.ruleset) {
    for (const NftChain& chain : facts.ruleset->chains) {
      if (chain.hook == hook && is_of(chain.family, family)) priorities.insert(chain.priority);
    }
  }
  for (const LegacyPlace& place : kLegacyPlaces) {
    if (!chains_at(facts, family, hook, place.priority).empty()) priorities.insert(place.priority);
  }
  return {priorities.begin(), priorities.end()};
}

namespace {

void add_dropping_nft_chains(const Facts& facts, std::vector<FirewallChain>& found) {
  if (!facts.ruleset) return;
  for (const NftChain& chain : facts.ruleset->chains) {
    const bool filters =
        chain.hook == "input" && (chain.family == "inet" || chain.family == "ip" || chain.family == "ip6");
    if (!filters || is_own(facts, chain)) continue;
    const NftRule* last = last_rule_of(*facts.ruleset, chain);
    if (chain.drops_by_policy || (last != nullptr && drops_everything(*last))) found.push_back(from_nft(chain));
  }
}

bool ends_in_drop(const Iptables& tables, const IptablesChain& chain) {
  const IptablesRule* last = nullptr;
  for (const IptablesRule& rule : tables.rules) {
    if (rule.table == chain.table && rule.chain == chain.name) last = &rule;
  }
  return last != nullptr && last->words.size() >= 2 && last->words[0] == "-j" &&
         (last->words[1] == "DROP" || last->words[1] == "REJECT");
}

}  // namespace

std::vector<FirewallChain> dropping_input_chains(const Facts& facts) {
  std::vector<FirewallChain> found;
  add_dropping_nft_chains(facts, found);
  for (const Iptables& tables : facts.iptables) {
    if (!tables.legacy) continue;
    for (const IptablesChain& chain : tables.chains) {
      if (chain.name != "INPUT" || (!chain.drops_by_policy && !ends_in_drop(tables, chain))) continue;
      found.push_back({.program = tables.program,
                       .family = tables.family == Family::ipv4 ? "ip" : "ip6",
                       .table = chain.table,
                       .chain = chain.name});
    }
  }
  return found;
}

}  // namespace limpid::doctor
