// What rules of others give to TPROXY has to be routed to this host by its mark: a policy rule that looks up a table with a local
// route, for each family. Without, the packet is dropped (ip_forward() drops what has a socket). Called by routing.cc's check.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/checks.h"

namespace limpid::doctor {
namespace {

using nlohmann::json;

constexpr std::uint32_t kWholeMark = 0xffffffff;
constexpr std::uint32_t kLocalTable = 255;
constexpr std::uint32_t kUsualTable = 100;  // the kernel's document and every recipe after it

/// A rule of TPROXY that sets a mark; of the bits outside the mask nothing is known.
struct Marking {
  Family family = Family::ipv4;
  Mark mark;
  std::string where;
};

bool is_mark(const json& value) {
  return value == json({{"meta", {{"key", "mark"}}}});
}

/// Two operands of an operator: the mark, or what is left of it, and a number.
bool is_pair(const json& value, const char* name) {
  return value.is_object() && value.contains(name) && value[name].is_array() && value[name].size() == 2 &&
         value[name][1].is_number_unsigned();
}

/// `meta mark set 1`, `meta mark set meta mark or 1`, `meta mark set meta mark and 0xf0 or 1`.
std::optional<Mark> mark_of(const json& value) {
  const auto number = [](const json& n) { return static_cast<std::uint32_t>(n.get<std::uint64_t>()); };
  if (value.is_number_unsigned()) return Mark{.value = number(value), .mask = kWholeMark};
  for (const char* name : {"|", "^"}) {
    if (!is_pair(value, name)) continue;
    const json& kept = value[name][0];
    const std::uint32_t set = number(value[name][1]);
    const bool partly = is_pair(kept, "&") && is_mark(kept["&"][0]);
    if (!partly && !is_mark(kept)) return std::nullopt;
    const std::uint32_t cleared = partly ? ~number(kept["&"][1]) : 0;
    const std::uint32_t known = *name == '|' ? cleared | set : cleared;
    return Mark{.value = set & known, .mask = known};
  }
  return std::nullopt;
}

bool has_tproxy(const NftRule& rule) {
  return std::ranges::any_of(rule.expression, [](const json& s) { return s.is_object() && s.contains("tproxy"); });
}

std::optional<Mark> mark_of(const NftRule& rule) {
  for (const json& statement : rule.expression) {
    if (!statement.is_object() || !statement.contains("mangle")) continue;
    const json& mangle = statement["mangle"];
    if (mangle.is_object() && mangle.contains("key") && mangle.contains("value") && is_mark(mangle["key"]))
      return mark_of(mangle["value"]);
  }
  return std::nullopt;
}

/// nft insists on a family in the statement wherever the rule is about one.
bool concerns(const NftRule& rule, Family family) {
  const std::string_view name = family == Family::ipv4 ? "ip" : "ip6";
  if (rule.family != "inet") return rule.family == name;
  return std::ranges::any_of(rule.expression, [&](const json& s) {
    if (!s.is_object() || !s.contains("tproxy")) return false;
    const std::string said = text_of(s["tproxy"], "family");
    return said.empty() || said == name;
  });
}

std::vector<Marking> find_markings(const Facts& facts) {
  std::vector<Marking> found;
  for (const Iptables& tables : facts.iptables) {
    for (const IptablesRule& rule : tables.rules) {
      if (rule.target() != "TPROXY" || instance_of_chain(rule.chain)) continue;
      const auto mark = Mark::parse(rule.after("--tproxy-mark"));
      if (!mark) continue;
      found.push_back({.family = tables.family,
                       .mark = *mark,
                       .where = fmt::format("{} -t {} {} {}", tables.program, rule.table, rule.chain, rule.number)});
    }
  }
  if (!facts.ruleset) return found;
  for (const NftRule& rule : facts.ruleset->rules) {
    const bool ours = std::ranges::any_of(
        facts.survey.installations, [&](const FoundInstallation& f) { return table_name_of(f.name) == rule.table; });
    if (ours || !has_tproxy(rule)) continue;
    const auto mark = mark_of(rule);
    if (!mark) continue;
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      if (concerns(rule, family)) {
        found.push_back({.family = family,
                         .mark = *mark,
                         .where = fmt::format("nft {} {} {}", rule.family, rule.table, rule.chain)});
      }
    }
  }
  return found;
}

bool delivers(const Facts& facts, Family family, TableId table) {
  return std::ranges::any_of(facts.survey.routes, [&](const RouteSpec& route) {
    const Prefix& to = route.destination;
    if (!route.local || route.table != table || to.family() != family) return false;
    // This host's own addresses are there for another reason.
    const bool own = to.length() == (family == Family::ipv4 ? 32 : 128) || to.network().is_loopback();
    return table.value != kLocalTable || !own;
  });
}

bool may_match(const RuleSpec& rule, const Marking& marking) {
  if (rule.family != marking.family || rule.action != RuleAction::lookup) return false;
  if (!rule.mark || rule.inverted) return true;
  return ((rule.mark->value ^ marking.mark.value) & rule.mark->mask & marking.mark.mask) == 0;
}

std::uint32_t free_table(const Facts& facts) {
  std::set<std::uint32_t> taken(facts.survey.named_tables.begin(), facts.survey.named_tables.end());
  for (const RuleSpec& rule : facts.survey.rules) taken.insert(rule.table.value);
  for (const RouteSpec& route : facts.survey.routes) taken.insert(route.table.value);
  std::uint32_t table = kUsualTable;
  while (taken.contains(table)) ++table;
  return table;
}

/// A table that is looked up for the mark alone, and lacks its local route only.
std::optional<TableId> find_table(const Facts& facts, const Marking& marking) {
  for (const RuleSpec& rule : facts.survey.rules) {
    if (!rule.mark || rule.inverted || !may_match(rule, marking)) continue;
    const bool leads_elsewhere = std::ranges::any_of(facts.survey.routes, [&](const RouteSpec& route) {
      return route.table == rule.table && route.destination == Prefix::everything(marking.family);
    });
    if (!leads_elsewhere) return rule.table;
  }
  return std::nullopt;
}

std::string in_words(const Mark& mark) {
  return mark.mask == kWholeMark ? fmt::format("{:#x}", mark.value) : mark.to_string();
}

Finding lost(const Facts& facts, const Marking& marking) {
  const bool ipv4 = marking.family == Family::ipv4;
  const std::string flag = ipv4 ? "-4" : "-6";
  const auto table = find_table(facts, marking);
  const std::string number = std::to_string(table ? table->value : free_table(facts));
  Remedy remedy;
  if (!table)
    remedy.commands.push_back({"ip", flag, "rule", "add", "fwmark", in_words(marking.mark), "lookup", number});
  remedy.commands.push_back({"ip", flag, "route", "add", "local", "default", "dev", "lo", "table", number});
  remedy.advice = "and where this host's network is configured, so that it stays";
  const std::string missing = table ? fmt::format("table {}, which is looked up for it, has no local route", number)
                                    : std::string("no policy rule for it looks up a table with a local route");
  return failure(
      Group::routing, "mark-not-delivered",
      fmt::format("the packets that it gives to TPROXY get the mark {}, but {} (IPv{}): they are not delivered "
                  "to this host, but lost",
                  in_words(marking.mark), missing, ipv4 ? 4 : 6),
      marking.where, std::move(remedy));
}

}  // namespace

Findings check_delivery(const Facts& facts) {
  const std::vector<Marking> markings = find_markings(facts);
  Findings findings;
  for (const Marking& marking : markings) {
    if (marking.family == Family::ipv6 && !facts.survey.ipv6_available) continue;  // see ipv6-off
    const bool delivered = std::ranges::any_of(facts.survey.rules, [&](const RuleSpec& rule) {
      return may_match(rule, marking) && delivers(facts, marking.family, rule.table);
    });
    if (delivered) continue;
    Finding finding = lost(facts, marking);
    // Several rules with one mark: what mends the first mends all.
    const bool known = std::ranges::any_of(
        findings, [&](const Finding& other) { return other.remedy.commands == finding.remedy.commands; });
    if (!known) findings.push_back(std::move(finding));
  }
  if (findings.empty() && !markings.empty()) {
    findings.push_back(
        ok(Group::routing, "mark-not-delivered", "what others' TPROXY rules mark is routed to this host"));
  }
  return findings;
}

}  // namespace limpid::doctor
