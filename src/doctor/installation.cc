// What is installed: whether it is whole, whether somebody keeps it, and what others have left behind.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "doctor/apply_command.h"
#include "doctor/checks.h"

namespace limpid::doctor {
namespace {

std::string ports_of(const Scope& scope) {
  std::string text;
  if (!scope.tcp.empty()) text = "TCP " + scope.tcp.to_string();
  if (!scope.udp.empty()) text += (text.empty() ? "UDP " : " and UDP ") + scope.udp.to_string();
  return text;
}

std::string_view family_flag(Family family) {
  return family == Family::ipv4 ? "-4" : "-6";
}

Command ip_command(Family family, const std::string& object, const std::string& verb, const std::string& arguments) {
  Command command = {"ip", std::string(family_flag(family)), object, verb};
  std::size_t begin = 0;
  while (begin <= arguments.size()) {
    const auto end = std::min(arguments.find(' ', begin), arguments.size());
    if (end > begin) command.push_back(arguments.substr(begin, end - begin));
    begin = end + 1;
  }
  return command;
}

std::vector<Family> families_of(const Scope& scope) {
  std::vector<Family> families;
  if (scope.ipv4) families.push_back(Family::ipv4);
  if (scope.ipv6) families.push_back(Family::ipv6);
  return families;
}

/// A family whose policy rules are there has its rules somewhere: who flushed and deleted its chains left nothing else that tells.
std::vector<std::string> families_without_rules(const Facts& facts, const Judged& judged) {
  std::vector<std::string> missing;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const bool in_scope = family == Family::ipv4 ? judged.scope.ipv4 : judged.scope.ipv6;
    const bool has_policy = std::ranges::any_of(facts.survey.rules, [&](const RuleSpec& rule) {
      return rule.family == family && owns(judged.ownership, rule);
    });
    if (!in_scope && has_policy) missing.push_back(fmt::format("{}: all of its chains", to_string(family)));
  }
  return missing;
}

std::string in_short(const std::vector<std::string>& missing) {
  std::string summary = fmt::format("missing: {}", missing.front());
  if (missing.size() > 1) summary += fmt::format(", and {} more", missing.size() - 1);
  return summary;
}

/// Which command installed it. `rules apply` ends at once: who holds the lock, or needs a heartbeat, is `rules watch`.
std::string_view keeper_of(const Judged& judged) {
  const Ownership& owner = judged.ownership;
  if (owner.keeper == Keeper::process) return "limpid run";
  return judged.alive || owner.heartbeat ? "limpid rules watch" : "limpid rules apply";
}

/// What brings back what is missing.
std::string how_to_restore(const Judged& judged) {
  const std::string_view keeper = keeper_of(judged);
  if (judged.alive)
    return fmt::format("the running `{}` puts them back by itself, unless it was told --repair off", keeper);
  return judged.ownership.keeper == Keeper::process || judged.ownership.heartbeat
             ? fmt::format("start `{}` again", keeper)
             : "apply it again";
}

/// Where the rules themselves are not what was written.
std::optional<Finding> check_rules(const Facts& facts, const Judged& judged) {
  const Ownership& owner = judged.ownership;
  if (owner.backend != Backend::nftables) {
    std::vector<std::string> missing;
    if (is_iptables(owner.backend)) missing = families_without_rules(facts, judged);
    missing.insert(missing.end(), judged.missing_rules.begin(), judged.missing_rules.end());
    if (missing.empty()) return std::nullopt;
    // What has been read may be a part of what was meant: no command could be told from it.
    return failure(Group::installation, "rules-missing", in_short(missing), owner.name, advise(how_to_restore(judged)));
  }
  if (judged.draining || !judged.scope.tcp.empty() || !judged.scope.udp.empty()) return std::nullopt;
  return failure(Group::installation, "rules-missing", "its nft table is there, but without its rules", owner.name,
                 advise(how_to_restore(judged)));
}

/// What the comment says should be there and is not.
Findings check_whole(const Facts& facts, const Judged& judged) {
  if (!judged.scope_problem.empty())
    return {skipped(Group::installation, "rules-missing", judged.scope_problem, judged.ownership.name)};
  const Ownership& owner = judged.ownership;
  if (auto found = check_rules(facts, judged)) return {std::move(*found)};
  Remedy remedy;
  remedy.safe = true;
  std::vector<std::string> missing;
  bool needs_loopback = false;
  for (const Family family : families_of(judged.scope)) {
    const RouteSpec route{.destination = Prefix::everything(family),
                          .table = owner.table,
                          .local = true,
                          .device = "lo",
                          .gateway = std::nullopt,
                          .protocol = kRouteProtocol};
    if (std::ranges::find(facts.survey.routes, route) == facts.survey.routes.end()) {
      missing.push_back(describe(route));
      needs_loopback = true;
      remedy.commands.push_back(ip_command(family, "route", "add", route_arguments(route)));
    }
    for (const RuleSpec& rule : policy_rules(family, owner)) {
      if (std::ranges::find(facts.survey.rules, rule) != facts.survey.rules.end()) continue;
      missing.push_back(describe(rule));
      remedy.commands.push_back(ip_command(family, "rule", "add", rule_arguments(rule)));
    }
  }
  if (missing.empty())
    return {ok(Group::installation, "rules-missing", "its policy rules and routes are all there", owner.name)};
  // First: the kernel adds no route through an interface that is down (fib6_nh_init() in net/ipv6/route.c).
  if (needs_loopback && !loopback_is_up(facts))
    remedy.commands.insert(remedy.commands.begin(), {"ip", "link", "set", "lo", "up"});
  if (judged.alive) remedy.advice = how_to_restore(judged);
  return {failure(Group::installation, "rules-missing", in_short(missing), owner.name, std::move(remedy))};
}

Command remove_command(const std::string& name) {
  Command command = {"limpid", "rules", "remove"};
  if (name != "limpid") command.insert(command.end(), {"--name", name});
  return command;
}

Findings check_kept(const Judged& judged) {
  const Ownership& owner = judged.ownership;
  // Without the heartbeat of a `rules watch`, iptables intercepts nothing; nftables needs nobody.
  if (judged.alive || (owner.keeper != Keeper::process && !owner.heartbeat)) return {};
  Remedy remedy;
  remedy.commands = {remove_command(owner.name)};
  remedy.advice = fmt::format("or start `{}` again, which takes it over", keeper_of(judged));
  return {warning(Group::installation, "left-over",
                  fmt::format("left behind by a `{}` that was killed: {}", keeper_of(judged),
                              judged.fail == FailMode::closed ? "what is in scope is rejected"
                                                              : "what is in scope is forwarded as usual"),
                  owner.name, std::move(remedy))};
}

/// With --fail open the rules go with the process, and what outlives both stays: no table tells of it.
Findings check_cut_through(const Facts& facts) {
  Findings findings;
  for (const std::string& name : facts.abandoned_cut_through) {
    Remedy remedy;
    remedy.commands = {remove_command(name)};
    remedy.advice = "which resets those flows; or start `limpid run --cut-through` again, which takes them over";
    findings.push_back(warning(Group::installation, "left-over",
                               "cut-through programs of a `limpid run` that was killed: the flows that had left it go "
                               "on through them, and nobody counts or ends them",
                               name, std::move(remedy)));
  }
  if (!facts.cut_through_problem.empty())
    findings.push_back(skipped(Group::installation, "left-over", facts.cut_through_problem));
  return findings;
}

Finding describe_installation(const Judged& judged) {
  const Ownership& owner = judged.ownership;
  return ok(Group::installation, "installation",
            fmt::format("{} to port {}, {}mark {}, table {}, priority {}, {}",
                        judged.scope_problem.empty() ? ports_of(judged.scope) : "unknown ports", owner.listener.value,
                        owner.backend != Backend::nftables ? fmt::format("by {}, ", to_string(owner.backend)) : "",
                        owner.mark.intercept_mark().to_string(), owner.table.value, owner.priority.value,
                        judged.draining ? "draining"
                        : judged.alive  ? fmt::format("by a running `{}`", keeper_of(judged))
                        : owner.keeper == Keeper::process || owner.heartbeat
                            ? fmt::format("by a `{}` that is gone", keeper_of(judged))
                            : fmt::format("by `{}`", keeper_of(judged))),
            owner.name);
}

/// Rules and routes with our protocol number that belong to no table.
Findings check_orphans(const Facts& facts) {
  const auto is_orphan = [&](const auto& spec) {
    return spec.protocol == kRouteProtocol &&
           std::ranges::none_of(facts.survey.installations,
                                [&](const FoundInstallation& f) { return owns(f.ownership, spec); });
  };
  Remedy remedy;
  remedy.safe = true;
  std::vector<std::string> found;
  for (const RuleSpec& rule : facts.survey.rules) {
    if (!is_orphan(rule)) continue;
    found.push_back(describe(rule));
    remedy.commands.push_back(ip_command(rule.family, "rule", "del", rule_arguments(rule)));
  }
  for (const RouteSpec& route : facts.survey.routes) {
    if (!is_orphan(route)) continue;
    found.push_back(describe(route));
    remedy.commands.push_back(ip_command(route.destination.family(), "route", "del", route_arguments(route)));
  }
  if (found.empty()) return {ok(Group::installation, "orphans", "no rules or routes of Limpid's without a table")};
  std::string summary = fmt::format("belongs to no table: {}", found.front());
  if (found.size() > 1) summary += fmt::format(", and {} more", found.size() - 1);
  remedy.advice = "if the table was flushed by somebody, apply it again instead";
  return {warning(Group::installation, "orphans", summary, {}, std::move(remedy))};
}

/// Chains with names of ours that Limpid did not make.
Findings check_foreign_chains(const Facts& facts) {
  Findings findings;
  std::vector<XtablesPiece> rest = facts.xtables;
  while (!rest.empty()) {
    const XtablesPiece first = rest.front();
    const auto alike = [&](const XtablesPiece& piece) {
      return piece.name == first.name && piece.backend == first.backend && piece.family == first.family;
    };
    std::vector<XtablesPiece> instance;
    std::ranges::copy_if(rest, std::back_inserter(instance), alike);
    std::erase_if(rest, alike);
    if (!is_foreign(instance)) continue;
    findings.push_back(warning(Group::installation, "foreign-table",
                               "chains with names of ours that Limpid did not make", first.to_string(),
                               advise("choose another --name, or rename those chains")));
  }
  return findings;
}

}  // namespace

Findings check_installation(const Facts& facts) {
  if (!facts.may_change_network) {
    Finding finding =
        skipped(Group::installation, "installation", "what is installed cannot be seen without CAP_NET_ADMIN");
    finding.not_permitted = true;
    return {std::move(finding)};
  }
  Findings findings;
  for (const Judged& judged : facts.judged) {
    if (!judged.installed) continue;
    findings.push_back(describe_installation(judged));
    append(findings, check_whole(facts, judged));
    append(findings, check_kept(judged));
  }
  if (facts.judged.empty() && !facts.wanted_name.empty()) {
    std::string others;
    for (const FoundInstallation& found : facts.survey.installations)
      others += (others.empty() ? "; installed: " : ", ") + found.name;
    findings.push_back(failure(Group::installation, "installation", "nothing is installed under this name" + others,
                               facts.wanted_name,
                               advise("give another --name, or leave it out to have everything judged")));
  } else if (facts.judged.empty()) {
    findings.push_back(
        skipped(Group::installation, "installation",
                "nothing is installed: what depends on a scope is not judged (`limpid run`, `limpid rules "
                "apply`, or give the flags of a plan)"));
  }
  append(findings, check_cut_through(facts));
  append(findings, check_orphans(facts));
  for (const NftTableName& table : facts.survey.foreign_tables) {
    findings.push_back(warning(Group::installation, "foreign-table",
                               "a table with a name of ours that Limpid did not make", table.to_string(),
                               advise("choose another --name, or rename that table")));
  }
  append(findings, check_foreign_chains(facts));
  return findings;
}

}  // namespace limpid::doctor
