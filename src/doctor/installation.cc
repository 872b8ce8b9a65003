// What is installed: whether it is whole, whether somebody keeps it, and what others have left behind.
#include <fmt/format.h>

#include <algorithm>
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

/// What the comment says should be there and is not.
Findings check_whole(const Facts& facts, const Judged& judged) {
  if (!facts.ruleset) return {};
  const Ownership& owner = judged.ownership;
  if (!judged.draining && judged.scope.tcp.empty() && judged.scope.udp.empty()) {
    return {failure(Group::installation, "rules-missing", "its nft table is there, but without its rules", owner.name,
                    advise("apply it again, or start `limpid run` again"))};
  }
  Remedy remedy;
  remedy.safe = true;
  std::vector<std::string> missing;
  for (const Family family : families_of(judged.scope)) {
    const RouteSpec route{.destination = Prefix::everything(family),
                          .table = owner.table,
                          .local = true,
                          .device = "lo",
                          .gateway = std::nullopt,
                          .protocol = kRouteProtocol};
    if (std::ranges::find(facts.survey.routes, route) == facts.survey.routes.end()) {
      missing.push_back(describe(route));
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
  std::string summary = fmt::format("missing: {}", missing.front());
  if (missing.size() > 1) summary += fmt::format(", and {} more", missing.size() - 1);
  if (judged.alive) remedy.advice = "limpid run puts them back by itself, unless it was told --repair off";
  return {failure(Group::installation, "rules-missing", summary, owner.name, std::move(remedy))};
}

Findings check_kept(const Judged& judged) {
  const Ownership& owner = judged.ownership;
  if (owner.keeper != Keeper::process || judged.alive) return {};
  Command command = {"limpid", "rules", "remove"};
  if (owner.name != "limpid") command.insert(command.end(), {"--name", owner.name});
  Remedy remedy;
  remedy.commands = {std::move(command)};
  remedy.advice = "or start `limpid run` again, which takes it over";
  return {warning(Group::installation, "left-over",
                  fmt::format("left behind by a `limpid run` that was killed: {}",
                              judged.fail == FailMode::closed ? "what is in scope is rejected"
                                                              : "what is in scope is forwarded as usual"),
                  owner.name, std::move(remedy))};
}

Finding describe_installation(const Judged& judged) {
  const Ownership& owner = judged.ownership;
  return ok(
      Group::installation, "installation",
      fmt::format("{} to port {}, mark {}, table {}, priority {}, {}", ports_of(judged.scope), owner.listener.value,
                  owner.mark.intercept_mark().to_string(), owner.table.value, owner.priority.value,
                  judged.draining                     ? "draining"
                  : owner.keeper == Keeper::permanent ? "by `rules apply`"
                  : judged.alive                      ? "by a running `limpid run`"
                                                      : "by a `limpid run` that is gone"),
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
  if (facts.judged.empty()) {
    findings.push_back(
        skipped(Group::installation, "installation",
                "nothing is installed: what depends on a scope is not judged (`limpid run`, `limpid rules "
                "apply`, or give the flags of a plan)"));
  }
  append(findings, check_orphans(facts));
  for (const NftTableName& table : facts.survey.foreign_tables) {
    findings.push_back(warning(Group::installation, "foreign-table",
                               "a table with a name of ours that Limpid did not make", table.to_string(),
                               advise("choose another --name, or rename that table")));
  }
  return findings;
}

}  // namespace limpid::doctor
