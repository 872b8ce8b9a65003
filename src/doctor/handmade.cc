// TPROXY set-ups that somebody made by hand, with the mistakes that recipes have: `-m socket` without --transparent, which
// takes ordinary traffic, and the divert rule behind TPROXY, which then handles every packet as a first one.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "doctor/checks.h"

namespace limpid::doctor {
namespace {

using nlohmann::json;

bool matches_socket(const IptablesRule& rule) {
  for (std::size_t i = 0; i + 1 < rule.words.size(); ++i) {
    if (rule.words[i] == "-m" && rule.words[i + 1] == "socket") return true;
  }
  return false;
}

std::string place_of(const Iptables& tables, const IptablesRule& rule) {
  return fmt::format("{} -t {} {} {}", tables.program, rule.table, rule.chain, rule.number);
}

/// Where rules came and went meanwhile, the place is another; a rule of somebody else's is never harmed.
Command inserting(const Iptables& tables, const IptablesRule& rule, unsigned place,
                  const std::vector<std::string>& words) {
  Command command = {tables.program, "-t", rule.table, "-I", rule.chain, std::to_string(place)};
  std::ranges::copy(words, std::back_inserter(command));
  return command;
}

/// By what it says and not by its number, which may be another's by then.
Command deleting(const Iptables& tables, const IptablesRule& rule, const std::vector<std::string>& words) {
  Command command = {tables.program, "-t", rule.table, "-D", rule.chain};
  std::ranges::copy(words, std::back_inserter(command));
  return command;
}

std::vector<std::string> transparent(const std::vector<std::string>& words) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < words.size(); ++i) {
    result.push_back(words[i]);
    if (i > 0 && words[i - 1] == "-m" && words[i] == "socket" &&
        std::ranges::find(words, "--transparent") == words.end()) {
      result.emplace_back("--transparent");
    }
  }
  return result;
}

Findings check_iptables(const Iptables& tables) {
  Findings findings;
  for (const IptablesRule& rule : tables.rules) {
    const bool ours = instance_of_chain(rule.chain).has_value();
    if (ours || rule.table != "mangle" || !matches_socket(rule) || rule.has("--transparent")) continue;
    Remedy remedy;
    remedy.commands = {inserting(tables, rule, rule.number, transparent(rule.words)),
                       deleting(tables, rule, rule.words)};
    remedy.safe = true;
    findings.push_back(
        failure(Group::firewall, "socket-not-transparent",
                "`-m socket` without --transparent takes the packets of ordinary sockets too, not a proxy's alone",
                place_of(tables, rule), std::move(remedy)));
  }
  const auto first_tproxy = std::ranges::find_if(tables.rules, [](const IptablesRule& rule) {
    return rule.table == "mangle" && rule.chain == "PREROUTING" && rule.target() == "TPROXY";
  });
  if (first_tproxy == tables.rules.end()) return findings;
  for (const IptablesRule& rule : tables.rules) {
    const bool is_behind = rule.table == "mangle" && rule.chain == "PREROUTING" && matches_socket(rule) &&
                           rule.number > first_tproxy->number;
    if (!is_behind) continue;
    // With --transparent: where it lacks that, the remedy of the finding above comes first.
    const std::vector<std::string> words = transparent(rule.words);
    Remedy remedy;
    remedy.commands = {deleting(tables, rule, words), inserting(tables, rule, first_tproxy->number, words)};
    remedy.safe = true;
    findings.push_back(
        failure(Group::firewall, "divert-behind-tproxy",
                fmt::format("this rule of established sockets comes behind TPROXY (rule {}), which takes their packets "
                            "first",
                            first_tproxy->number),
                place_of(tables, rule), std::move(remedy)));
    break;  // one place at a time: the next examination shows those behind it
  }
  return findings;
}

bool has_statement(const NftRule& rule, const char* name) {
  return std::ranges::any_of(rule.expression, [&](const json& s) { return s.is_object() && s.contains(name); });
}

bool asks_socket(const NftRule& rule) {
  return std::ranges::any_of(rule.expression, [](const json& s) {
    return s.is_object() && s.contains("match") && s["match"].is_object() && s["match"].contains("left") &&
           s["match"]["left"].is_object() && s["match"]["left"].contains("socket");
  });
}

/// The rule again, before the other one, and away from where it was: one transaction of nft's JSON.
std::string moving(const NftRule& rule, const NftRule& before) {
  const json place = {{"family", rule.family}, {"table", rule.table}, {"chain", rule.chain}};
  json inserted = place;
  inserted["handle"] = before.handle;
  inserted["expr"] = rule.expression;
  json deleted = place;
  deleted["handle"] = rule.handle;
  const json transaction = {
      {"nftables", {{{"insert", {{"rule", std::move(inserted)}}}}, {{"delete", {{"rule", std::move(deleted)}}}}}}};
  const std::string text = transaction.dump(-1, ' ', true, json::error_handler_t::replace);
  std::string quoted;
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return fmt::format("echo '{}' | nft -j -f -", quoted);
}

Findings check_nft(const Facts& facts) {
  Findings findings;
  const NftRule* tproxy = nullptr;
  for (const NftRule& rule : facts.ruleset->rules) {
    const bool ours = std::ranges::any_of(
        facts.survey.installations, [&](const FoundInstallation& f) { return table_name_of(f.name) == rule.table; });
    if (ours) continue;
    const bool same_chain = tproxy != nullptr && tproxy->family == rule.family && tproxy->table == rule.table &&
                            tproxy->chain == rule.chain;
    if (has_statement(rule, "tproxy") && !same_chain) tproxy = &rule;
    if (!same_chain || !asks_socket(rule)) continue;
    Remedy remedy;
    remedy.paste = {moving(rule, *tproxy)};
    findings.push_back(
        failure(Group::firewall, "divert-behind-tproxy",
                fmt::format("this rule of established sockets (handle {}) comes behind tproxy (handle {}), which takes "
                            "their packets first",
                            rule.handle, tproxy->handle),
                fmt::format("nft {} {} {}", rule.family, rule.table, rule.chain), std::move(remedy)));
  }
  return findings;
}

}  // namespace

Findings check_handmade(const Facts& facts) {
  Findings findings;
  for (const Iptables& tables : facts.iptables) append(findings, check_iptables(tables));
  if (facts.ruleset) append(findings, check_nft(facts));
  if (findings.empty() && facts.ruleset) {
    findings.push_back(ok(Group::firewall, "divert-behind-tproxy", "no TPROXY rules of others with a known mistake"));
  }
  return findings;
}

}  // namespace limpid::doctor
