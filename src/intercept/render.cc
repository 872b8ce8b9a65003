// Shows a plan: as commands that a person can read or paste, and as JSON. Pure. What is shown here is what install.cc
// does, in the same order.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <ranges>

#include "intercept/ebpf_policy.h"
#include "intercept/plan.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

std::string_view ip_flag(Family family) {
  return family == Family::ipv4 ? "-4" : "-6";
}
std::string_view family_name(Family family) {
  return family == Family::ipv4 ? "ipv4" : "ipv6";
}
std::string_view action_name(RuleAction action) {
  switch (action) {
    case RuleAction::lookup: return "lookup";
    case RuleAction::jump: return "goto";
    case RuleAction::nop: return "nop";
    case RuleAction::other: return "other";
  }
  return "other";
}

template <class Range>
ordered_json texts(const Range& range) {
  ordered_json array = ordered_json::array();
  for (const auto& element : range) array.push_back(element.to_string());
  return array;
}

/// No command can load them, so this is only to read.
std::string render_ebpf(const Plan& plan) {
  std::string text = "# eBPF programs at tc ingress of every interface";
  if (plan.inputs.ownership.local) text += " (and egress, for this host's own traffic)";
  text += ", which `limpid rules apply` or `limpid run` loads. Their policy:\n";
  for (const std::string& line : ebpf_policy_lines(plan.inputs)) text += fmt::format("#   {}\n", line);
  return text;
}

ordered_json ports_json(const PortSet& set) {
  ordered_json ports = ordered_json::array();
  for (const PortRange& range : set.ranges()) {
    ports.push_back({{"first", range.first.value}, {"last", range.last.value}});
  }
  return ports;
}

ordered_json ids_json(const std::vector<IdRange>& ranges) {
  ordered_json ids = ordered_json::array();
  for (const IdRange& range : ranges) ids.push_back({{"first", range.first}, {"last", range.last}});
  return ids;
}

ordered_json programs_json(const Programs& programs) {
  return {{"users", ids_json(programs.users)}, {"groups", ids_json(programs.groups)}, {"cgroups", programs.cgroups}};
}

ordered_json scope_json(const Scope& scope) {
  ordered_json families = ordered_json::array();
  if (scope.ipv4) families.push_back("ipv4");
  if (scope.ipv6) families.push_back("ipv6");
  return {{"families", families},
          {"tcp", ports_json(scope.tcp)},
          {"udp", ports_json(scope.udp)},
          {"forwarded", scope.forwarded},
          {"from_interfaces", scope.from_interfaces},
          {"from_networks", texts(scope.from_prefixes)},
          {"to_networks", texts(scope.to_prefixes)},
          {"excluded_networks", texts(scope.excluded)},
          {"local", scope.local ? ordered_json{{"only", programs_json(scope.local->only)},
                                               {"never", programs_json(scope.local->never)}}
                                : ordered_json{}}};
}

ordered_json rule_json(const RuleSpec& rule) {
  ordered_json json = {{"family", family_name(rule.family)}, {"priority", rule.priority.value}};
  if (!rule.input_interface.empty()) json["input_interface"] = rule.input_interface;
  if (rule.mark) json["mark"] = rule.mark->to_string();
  json["action"] = action_name(rule.action);
  if (rule.action == RuleAction::lookup) json["table"] = rule.table.value;
  if (rule.action == RuleAction::jump) json["goto"] = rule.jump_target.value;
  json["protocol"] = rule.protocol;
  return json;
}

ordered_json route_json(const RouteSpec& route) {
  return {{"family", family_name(route.destination.family())},
          {"type", route.local ? "local" : "unicast"},
          {"destination", route.destination.to_string()},
          {"device", route.device},
          {"table", route.table.value},
          {"protocol", route.protocol}};
}

}  // namespace

std::string rule_arguments(const RuleSpec& rule) {
  std::string text;
  if (rule.inverted) text += "not ";
  text += fmt::format("priority {}", rule.priority.value);
  if (!rule.input_interface.empty()) text += " iif " + rule.input_interface;
  if (rule.mark) text += " fwmark " + rule.mark->to_string();
  if (rule.protocol != 0) text += fmt::format(" protocol {}", rule.protocol);
  switch (rule.action) {
    case RuleAction::lookup: return text + fmt::format(" lookup {}", rule.table.value);
    case RuleAction::jump: return text + fmt::format(" goto {}", rule.jump_target.value);
    case RuleAction::nop: return text + " nop";
    case RuleAction::other: return text;
  }
  return text;
}

std::string route_arguments(const RouteSpec& route) {
  std::string text = route.local ? "local " : "";
  text += route.destination.to_string();
  if (route.gateway) text += " via " + route.gateway->to_string();
  if (!route.device.empty()) text += " dev " + route.device;
  text += fmt::format(" table {}", route.table.value);
  if (route.protocol != 0) text += fmt::format(" proto {}", route.protocol);
  return text;
}

std::string describe(const RuleSpec& rule) {
  return fmt::format("ip {} rule {}", ip_flag(rule.family), rule_arguments(rule));
}

std::string describe(const RouteSpec& route) {
  return fmt::format("ip {} route {}", ip_flag(route.destination.family()), route_arguments(route));
}

std::string render_commands(const Plan& plan) {
  std::string text;
  for (const SysctlChange& change : plan.sysctls) {
    text += fmt::format("sysctl -w {}={}  # was {}\n", change.key, change.value, change.previous);
  }
  if (!plan.sysctls.empty()) text += '\n';
  text += "# Packets that carry the mark are delivered to this host, whatever their destination.\n";
  for (const RouteSpec& route : plan.routes) {
    text += fmt::format("ip {} route add {}\n", ip_flag(route.destination.family()), route_arguments(route));
  }
  for (const RuleSpec& rule : plan.rules) {
    text += fmt::format("ip {} rule add {}\n", ip_flag(rule.family), rule_arguments(rule));
  }
  text += "\n# Which packets get the mark, and which socket. Last, because only this captures.\n";
  const Ownership& owner = plan.inputs.ownership;
  if (owner.backend == Backend::ebpf) return text + render_ebpf(plan);
  if (!is_iptables(owner.backend)) return text + fmt::format("nft -f - <<'END'\n{}END\n", render_nft_replacement(plan));
  if (owner.heartbeat) {
    text += fmt::format(
        "# `limpid run` writes +0.0.0.0 and +:: into /proc/net/xt_recent/{} every 200 ms; without that these rules "
        "take nobody to "
        "listen.\n",
        plan.table_name);
  }
  for (const XtablesRuleset& rules : plan.xtables) {
    text += fmt::format("{} --noflush <<'END'\n{}END\n", xtables_program(owner.backend, rules.family, "restore"),
                        render_restore(rules));
  }
  return text;
}

std::string render_removal_commands(const Plan& plan) {
  std::string text;
  if (plan.inputs.ownership.backend == Backend::ebpf)
    text += fmt::format("limpid rules remove --name {}\n", plan.inputs.ownership.name);
  for (const NftTableName& table : tables_of(plan)) text += fmt::format("nft delete table {}\n", table.to_string());
  for (const XtablesRuleset& rules : plan.xtables) {
    text +=
        fmt::format("{} --noflush <<'END'\n", xtables_program(plan.inputs.ownership.backend, rules.family, "restore"));
    for (const XtablesTable& table : rules.tables | std::views::reverse) {
      text += fmt::format("*{}\n", table.name);
      for (const XtablesJump& jump : table.jumps) text += fmt::format("-D {} -j {}\n", jump.from, jump.to);
      for (const std::string& chain : table.chains) text += fmt::format("-F {}\n", chain);
      for (const std::string& chain : table.chains) text += fmt::format("-X {}\n", chain);
      text += "COMMIT\n";
    }
    text += "END\n";
  }
  for (const RuleSpec& rule : plan.rules | std::views::reverse) {
    text += fmt::format("ip {} rule del {}\n", ip_flag(rule.family), rule_arguments(rule));
  }
  for (const RouteSpec& route : plan.routes | std::views::reverse) {
    text += fmt::format("ip {} route del {}\n", ip_flag(route.destination.family()), route_arguments(route));
  }
  for (const SysctlChange& change : plan.sysctls | std::views::reverse) {
    text += fmt::format("sysctl -w {}={}\n", change.key, change.previous);
  }
  return text;
}

std::string render_json(const Plan& plan) {
  const PlanInputs& inputs = plan.inputs;
  const Ownership& owner = inputs.ownership;
  ordered_json rules = ordered_json::array();
  for (const RuleSpec& rule : plan.rules) rules.push_back(rule_json(rule));
  ordered_json routes = ordered_json::array();
  for (const RouteSpec& route : plan.routes) routes.push_back(route_json(route));
  ordered_json sysctls = ordered_json::array();
  for (const SysctlChange& change : plan.sysctls) {
    sysctls.push_back({{"key", change.key}, {"value", change.value}, {"previous", change.previous}});
  }
  ordered_json companions = ordered_json::array();
  for (const CompanionTable& companion : plan.companions) {
    companions.push_back(
        {{"family", companion.name.family}, {"table", companion.name.name}, {"definition", companion.definition}});
  }
  ordered_json json = {
      {"schema", 1},
      {"name", owner.name},
      {"backend", to_string(owner.backend)},
      {"fail", inputs.fail == FailMode::open ? "open" : "closed"},
      {"keeps_source_port", inputs.keeps_source_port},
      {"keeps_udp_port", owner.keeps_udp_port},
      {"needs_conntrack", inputs.needs_conntrack},
      {"guards_listener", inputs.guards_listener},
      {"listener", {{"port", owner.listener.value}}},
      {"mark", {{"mask", owner.mark.mask}, {"intercept", owner.mark.intercept}, {"bypass", owner.mark.bypass}}},
      {"table", owner.table.value},
      {"priority", owner.priority.value},
      {"scope", scope_json(inputs.scope)},
      {"sysctls", sysctls},
      {"routes", routes},
      {"rules", rules},
  };
  if (is_iptables(owner.backend)) {
    ordered_json inputs_of_restore = ordered_json::array();
    for (const XtablesRuleset& ruleset : plan.xtables) {
      inputs_of_restore.push_back({{"family", family_name(ruleset.family)},
                                   {"program", xtables_program(owner.backend, ruleset.family, "restore")},
                                   {"input", render_restore(ruleset)}});
    }
    json["iptables"] = {{"heartbeat", owner.heartbeat ? ordered_json(plan.table_name) : ordered_json()},
                        {"restore", inputs_of_restore}};
  } else if (owner.backend == Backend::ebpf) {
    json["ebpf"] = {{"version", LIMPID_BPF_VERSION}, {"policy", ebpf_policy_lines(inputs)}};
  } else {
    json["nft"] = {
        {"family", "inet"}, {"table", plan.table_name}, {"definition", plan.nft_table}, {"companions", companions}};
  }
  return json.dump(2) + '\n';
}

}  // namespace limpid
