// See apply_command.h. Everything that the flags said is in the rules, in the comment, or in the priority of a chain.
#include "doctor/apply_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace limpid::doctor {

std::optional<Command> apply_command(const Judged& judged, const std::optional<Numbers>& numbers) {
  const Scope& scope = judged.scope;
  const bool is_known = judged.ownership.keeper == Keeper::permanent && judged.scope_complete && !scope.local &&
                        (!scope.tcp.empty() || !scope.udp.empty());
  if (!is_known) return std::nullopt;
  Command command = {"limpid", "rules", "apply"};
  const auto add = [&command](std::string flag, std::string value) {
    command.push_back(std::move(flag));
    command.push_back(std::move(value));
  };
  if (judged.ownership.name != "limpid") add("--name", judged.ownership.name);
  if (!scope.tcp.empty()) add("--tcp", scope.tcp.to_string());
  if (!scope.udp.empty()) add("--udp", scope.udp.to_string());
  for (const std::string& interface : scope.from_interfaces) add("--from", interface);
  for (const Prefix& prefix : scope.from_prefixes) add("--from", prefix.to_string());
  for (const Prefix& prefix : scope.to_prefixes) add("--to-net", prefix.to_string());
  for (const Prefix& prefix : scope.excluded) add("--exclude", prefix.to_string());
  if (!scope.ipv6) command.emplace_back("--ipv4-only");
  if (!scope.ipv4) command.emplace_back("--ipv6-only");
  if (judged.keeps_tcp_port) add("--source", "address+port");
  if (judged.fail == FailMode::closed) add("--fail", "closed");
  if (judged.ownership.sysctls.find_first_of("46") != std::string::npos) command.emplace_back("--enable-forwarding");
  if (judged.ownership.backend != Backend::nftables) add("--backend", std::string(to_string(judged.ownership.backend)));
  add("--listen-port", std::to_string(judged.ownership.listener.value));
  if (numbers) {
    add("--mark", numbers->mark.intercept_mark().to_string());
    add("--table", std::to_string(numbers->table.value));
    add("--priority", std::to_string(numbers->priority.value));
  }
  return command;
}

std::optional<Numbers> free_numbers(const Facts& facts, const Judged& judged) {
  Survey survey = facts.survey;
  std::erase_if(survey.installations, [&](const FoundInstallation& f) { return f.name == judged.ownership.name; });
  std::erase_if(survey.rules, [&](const RuleSpec& rule) { return owns(judged.ownership, rule); });
  std::erase_if(survey.routes, [&](const RouteSpec& route) {
    return route.protocol == kRouteProtocol && owns(judged.ownership, route);
  });
  InterceptionOptions options;
  options.name = judged.ownership.name;
  const auto numbers = choose_numbers(survey, options);
  return numbers ? std::optional(*numbers) : std::nullopt;
}

Remedy renumber(const Facts& facts, const Judged& judged) {
  const auto numbers = free_numbers(facts, judged);
  if (!numbers) return advise("free some of the mark's bits, or some priorities: `ip rule` lists their users");
  if (auto command = apply_command(judged, numbers)) {
    Remedy remedy;
    remedy.commands = {std::move(*command)};
    return remedy;
  }
  return advise(fmt::format("start it again with --mark {} --table {} --priority {}, which are free",
                            numbers->mark.intercept_mark().to_string(), numbers->table.value, numbers->priority.value));
}

}  // namespace limpid::doctor
