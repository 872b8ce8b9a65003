// Rules of others that intercepted packets meet: input chains that let only known services in, rules before ours, and rules
// that overwrite our mark. What a probe has proven counts more than what rules look like.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "doctor/checks.h"
#include "doctor/firewall_chain.h"

namespace limpid::doctor {
namespace {

using nlohmann::json;

bool is_ours(const Facts& facts, const std::string& table) {
  const auto instance = instance_of(table);
  return instance && std::ranges::any_of(facts.survey.installations,
                                         [&](const FoundInstallation& f) { return f.name == *instance; });
}

bool has_verdict(const NftRule& rule, std::string_view verdict) {
  return std::ranges::any_of(rule.expression, [&](const json& statement) {
    return statement.is_object() && statement.contains(std::string(verdict));
  });
}

bool passed_input(const Facts& facts, const Judged& judged, Family family) {
  const auto evidence = facts.evidence.find(judged.ownership.name);
  return evidence != facts.evidence.end() &&
         std::ranges::find(evidence->second.accepted, family) != evidence->second.accepted.end();
}

/// Chains whose looks say that they drop what nobody has allowed.
Findings check_input(const Facts& facts, const Judged& judged) {
  Findings findings;
  const auto note = [&](const FirewallChain& chain) {
    const bool concerns =
        (judged.scope.ipv4 && chain.filters(Family::ipv4) && !passed_input(facts, judged, Family::ipv4)) ||
        (judged.scope.ipv6 && chain.filters(Family::ipv6) && !passed_input(facts, judged, Family::ipv6));
    if (!concerns) return;
    findings.push_back(
        warning(Group::firewall, "input-drop",
                fmt::format("{} drops what it does not know, and has no rule for the mark of intercepted packets, "
                            "which pass it with their own destination",
                            chain.name()),
                chain.name(), chain.let_in(judged.ownership.mark)));
  };
  for (const FirewallChain& chain : dropping_input_chains(facts)) {
    if (!chain.lets_in(facts, judged.ownership.mark)) note(chain);
  }
  if (findings.empty()) {
    findings.push_back(
        ok(Group::firewall, "input-drop", "no input chain drops intercepted packets", judged.ownership.name));
  }
  return findings;
}

int priority_of(const Judged& judged) {
  return judged.keeps_tcp_port ? -300 : -150;  // raw, mangle: nft_table.cc
}

/// Whether nft shows a jump of iptables' own to chains of ours.
bool leads_to_ours(const NftRule& rule) {
  return std::ranges::any_of(rule.expression, [](const json& s) {
    return s.is_object() && s.contains("jump") && instance_of_chain(text_of(s["jump"], "target")).has_value();
  });
}

/// Rules of one chain come in their order, and those behind our jump meet what that has let by.
bool is_behind_ours(const Facts& facts, const NftRule& rule) {
  for (const NftRule& other : facts.ruleset->rules) {
    if (other.family != rule.family || other.table != rule.table || other.chain != rule.chain) continue;
    if (leads_to_ours(other)) return true;
    if (other.handle == rule.handle) return false;
  }
  return false;
}

bool is_behind_ours(const Iptables& tables, const IptablesRule& rule) {
  return std::ranges::any_of(tables.rules, [&](const IptablesRule& other) {
    return other.table == rule.table && other.chain == rule.chain && other.number < rule.number &&
           instance_of_chain(other.target()).has_value();
  });
}

/// What a rule of iptables in a chain of prerouting does to packets that ours have not seen; empty: nothing.
std::string_view act_before_ours(const Iptables& tables, const IptablesRule& rule, const Judged& judged) {
  const bool early = rule.table == "raw" || (rule.table == "mangle" && priority_of(judged) == -150);
  if (rule.chain != "PREROUTING" || !early || is_behind_ours(tables, rule)) return {};
  const std::string target = rule.target();
  if (target == "DROP") return "drops";
  if (target == "TPROXY") return "takes for another proxy";
  // The end of a chain that would have led to ours.
  const bool shared = (judged.ownership.backend == Backend::iptables_legacy) == tables.legacy &&
                      is_iptables(judged.ownership.backend) && rule.table == (judged.keeps_tcp_port ? "raw" : "mangle");
  return shared && (target == "ACCEPT" || target == "RETURN") ? "accepts" : "";
}

/// Those that nft does not show, or does not show so that it could be told what they do.
Findings check_iptables_order(const Facts& facts, const Judged& judged) {
  Findings findings;
  for (const Iptables& tables : facts.iptables) {
    if (!(tables.family == Family::ipv4 ? judged.scope.ipv4 : judged.scope.ipv6)) continue;
    for (const IptablesRule& rule : tables.rules) {
      const std::string_view verdict = act_before_ours(tables, rule, judged);
      if (verdict.empty() || (verdict == "drops" && !tables.legacy)) continue;
      const std::string chain = fmt::format("{} -t {} PREROUTING", tables.program, rule.table);
      findings.push_back(
          warning(Group::firewall, "rules-before",
                  fmt::format("rule {} in {} {} packets before ours see them", rule.number, chain, verdict), chain,
                  Remedy{.paste = {fmt::format("{} -t {} -S PREROUTING {}", tables.program, rule.table, rule.number)},
                         .advice = "see whether it means what is in scope"}));
    }
  }
  return findings;
}

/// Rules in prerouting that act before ours do.
Findings check_order(const Facts& facts, const Judged& judged) {
  Findings findings = check_iptables_order(facts, judged);
  for (const NftChain& chain : facts.ruleset->chains) {
    if (chain.hook != "prerouting" || chain.priority > priority_of(judged) || is_ours(facts, chain.table)) continue;
    if (chain.family != "inet" && chain.family != "ip" && chain.family != "ip6") continue;
    for (const NftRule& rule : facts.ruleset->rules) {
      if (rule.family != chain.family || rule.table != chain.table || rule.chain != chain.name) continue;
      const std::string_view verdict = has_verdict(rule, "drop")     ? "drops"
                                       : has_verdict(rule, "reject") ? "rejects"
                                       : has_verdict(rule, "tproxy") ? "takes for another proxy"
                                                                     : "";
      if (verdict.empty() || is_behind_ours(facts, rule)) continue;
      findings.push_back(
          warning(Group::firewall, "rules-before",
                  fmt::format("a rule in {} {} {} (handle {}) {} packets before ours see them", chain.family,
                              chain.table, chain.name, rule.handle, verdict),
                  fmt::format("{} {} {}", chain.family, chain.table, chain.name),
                  Remedy{.paste = {fmt::format("nft -a list chain {} {} {}", chain.family, chain.table, chain.name)},
                         .advice = "see whether it means what is in scope"}));
    }
  }
  if (findings.empty()) {
    findings.push_back(
        ok(Group::firewall, "rules-before", "no rule of others acts before ours", judged.ownership.name));
  }
  return findings;
}

/// Whether a statement sets the whole packet mark to a number.
std::optional<std::uint64_t> mark_that_is_set(const json& statement) {
  if (!statement.is_object() || !statement.contains("mangle")) return std::nullopt;
  const json& mangle = statement["mangle"];
  if (!mangle.is_object() || !mangle.contains("key") || !mangle.contains("value")) return std::nullopt;
  const json key = {{"meta", {{"key", "mark"}}}};
  if (mangle["key"] != key || !mangle["value"].is_number_unsigned()) return std::nullopt;
  return mangle["value"].get<std::uint64_t>();
}

Findings check_overwriting(const Facts& facts, const Judged& judged) {
  Findings findings;
  const auto note = [&](const std::string& where, std::string look) {
    findings.push_back(
        warning(Group::firewall, "mark-overwritten",
                fmt::format("a rule in {} sets the whole mark: where it meets an intercepted packet, that is not "
                            "delivered any more",
                            where),
                where,
                Remedy{.paste = {std::move(look)},
                       .advice = fmt::format("have it leave the bits {:#x} alone: in nft `meta mark set meta mark & "
                                             "{:#010x} | VALUE`, in iptables `--set-mark VALUE/MASK`",
                                             judged.ownership.mark.mask, ~judged.ownership.mark.mask)}));
  };
  for (const NftRule& rule : facts.ruleset->rules) {
    if (is_ours(facts, rule.table) || rule.family == "bridge" || rule.family == "netdev") continue;
    const auto chain = std::ranges::find_if(facts.ruleset->chains, [&](const NftChain& c) {
      return c.family == rule.family && c.table == rule.table && c.name == rule.chain;
    });
    if (chain == facts.ruleset->chains.end() || chain->hook != "prerouting") continue;
    const bool sets =
        std::ranges::any_of(rule.expression, [](const json& s) { return mark_that_is_set(s).has_value(); });
    // What ours have taken in that chain has ended there.
    if (!sets || has_verdict(rule, "tproxy") || (rule.table == "mangle" && is_behind_ours(facts, rule))) continue;
    note(fmt::format("{} {} {}", rule.family, rule.table, rule.chain),
         fmt::format("nft -a list chain {} {} {}", rule.family, rule.table, rule.chain));
  }
  for (const Iptables& tables : facts.iptables) {
    for (const IptablesRule& rule : tables.rules) {
      const std::string set = rule.after("--set-xmark");
      if (rule.chain != "PREROUTING" || rule.target() != "MARK" || !set.ends_with("/0xffffffff")) continue;
      if (rule.table == "mangle" && is_behind_ours(tables, rule)) continue;
      note(fmt::format("{} -t {} PREROUTING", tables.program, rule.table),
           fmt::format("{} -t {} -S PREROUTING {}", tables.program, rule.table, rule.number));
    }
  }
  return findings;
}

}  // namespace

Findings check_firewall(const Facts& facts) {
  Findings findings;
  const auto unreadable = [&](const std::string& problem, bool not_permitted) {
    if (problem.empty()) return;
    Finding finding = skipped(Group::firewall, "rules", fmt::format("not looked at: {}", problem));
    finding.not_permitted = not_permitted;
    findings.push_back(std::move(finding));
  };
  unreadable(facts.ruleset_problem, facts.ruleset_not_permitted);
  unreadable(facts.iptables_problem, facts.iptables_not_permitted);
  if (facts.ruleset) {
    for (const Judged& judged : facts.judged) {
      append(findings, check_input(facts, judged));
      append(findings, check_order(facts, judged));
      append(findings, check_overwriting(facts, judged));
    }
  }
  append(findings, check_handmade(facts));
  return findings;
}

}  // namespace limpid::doctor
