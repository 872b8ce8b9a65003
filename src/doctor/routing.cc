// Policy routing: others who use our mark, table or priorities, rules that come before ours, who deletes rules, targets
// whose answers do not come back, interfaces in scope that are not there, and those of different MTU.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "doctor/apply_command.h"
#include "doctor/checks.h"

namespace limpid::doctor {
namespace {

constexpr std::uint32_t kMainTable = 254;

/// Asks choose_numbers() for one of the numbers that are installed: it names whoever else uses it.
Findings check_number(const Facts& facts, const Judged& judged, std::string_view id,
                      const InterceptionOptions& options) {
  // What is under our numbers without our tag is somebody else's; what is exactly ours is not.
  Survey others = facts.survey;
  std::erase_if(others.rules, [&](const RuleSpec& rule) { return owns(judged.ownership, rule); });
  std::erase_if(others.routes, [&](const RouteSpec& route) {
    return route.protocol == kRouteProtocol && owns(judged.ownership, route);
  });
  const auto chosen = choose_numbers(others, options);
  if (chosen) return {};
  return {failure(Group::routing, id, fmt::format("used by others too: {}", chosen.error().cause),
                  judged.ownership.name, renumber(facts, judged))};
}

Findings check_clashes(const Facts& facts, const Judged& judged) {
  const Ownership& owner = judged.ownership;
  InterceptionOptions mark;
  mark.name = owner.name;
  InterceptionOptions table = mark;
  InterceptionOptions priority = mark;
  mark.mark = owner.mark.intercept_mark();
  table.table = owner.table;
  priority.priority = owner.priority;
  Findings findings = check_number(facts, judged, "mark-clash", mark);
  append(findings, check_number(facts, judged, "table-clash", table));
  append(findings, check_number(facts, judged, "priority-clash", priority));
  if (findings.empty()) {
    findings.push_back(ok(Group::routing, "mark-clash", "nobody else uses its mark, table or priorities", owner.name));
  }
  return findings;
}

Findings check_precedence(const Facts& facts, const Judged& judged) {
  const Numbers numbers{
      .mark = judged.ownership.mark, .table = judged.ownership.table, .priority = judged.ownership.priority};
  Findings findings;
  for (const std::string& text : precedence_warnings(facts.survey, numbers)) {
    findings.push_back(warning(Group::routing, "rule-order", text.substr(0, text.find(" (move it")),
                               judged.ownership.name, renumber(facts, judged)));
  }
  if (findings.empty()) {
    findings.push_back(
        ok(Group::routing, "rule-order", "no policy rule of others comes before its own", judged.ownership.name));
  }
  return findings;
}

Findings check_networkd(const Facts& facts) {
  if (!facts.networkd_runs) return {};
  if (facts.networkd_keeps_rules) {
    return {ok(Group::routing, "networkd", "systemd-networkd is told to leave other programs' policy rules alone")};
  }
  Remedy remedy;
  remedy.paste = {
      "mkdir -p /etc/systemd/networkd.conf.d",
      "printf '[Network]\\nManageForeignRoutingPolicyRules=no\\n' > /etc/systemd/networkd.conf.d/limpid.conf",
      "systemctl restart systemd-networkd"};
  return {warning(Group::routing, "networkd",
                  "systemd-networkd runs here and deletes policy rules that it did not make, whenever it restarts or a "
                  "link changes",
                  {}, std::move(remedy))};
}

Findings check_network_manager(const Facts& facts) {
  if (!facts.network_manager_runs) return {};
  return {ok(Group::routing, "networkmanager",
             "NetworkManager runs here; it leaves other programs' policy rules alone, but may change rp_filter and "
             "routes when a "
             "device connects: look again then")};
}

/// Connections that the proxy opened in somebody else's name, and that nobody answers.
Findings check_return_path(const Facts& facts) {
  std::vector<const UnansweredConnection*> foreign;
  for (const UnansweredConnection& connection : facts.unanswered) {
    const IpAddress address = connection.local.address.unmapped();
    const bool own = address.is_loopback() || std::ranges::any_of(facts.addresses, [&](const AddressInfo& info) {
                       return info.address == address;
                     });
    if (!own) foreign.push_back(&connection);
  }
  if (foreign.empty()) {
    return {ok(Group::routing, "return-path", "no connection in a client's name waits for its target")};
  }
  const UnansweredConnection& first = *foreign.front();
  Remedy remedy;
  remedy.paste = {
      fmt::format("limpid doctor --target {} --as {}", first.target.to_string(), first.local.address.to_string())};
  remedy.advice =
      "it tells a dead target from answers that go elsewhere; then mend the target's route to the client, or use "
      "--source none";
  return {warning(
      Group::routing, "return-path",
      fmt::format("{} in clients' names wait for an answer, the first as {} to {}: the target is down, or its answers "
                  "do not come back through this host",
                  foreign.size() == 1 ? "1 connection" : fmt::format("{} connections", foreign.size()),
                  first.local.address.to_string(), first.target.to_string()),
      first.target.to_string(), std::move(remedy))};
}

/// Whoever is behind an interface that the scope names, and that has gone or never was there, is not intercepted.
Findings check_interfaces(const Facts& facts, const Judged& judged) {
  Findings findings;
  for (const std::string& name : judged.scope.from_interfaces) {
    const auto is_it = [&](const Interface& interface) { return interface.link.name == name; };
    if (std::ranges::any_of(facts.interfaces, is_it)) continue;
    findings.push_back(warning(
        Group::routing, "interface-missing",
        fmt::format(
            "in the scope of \"{}\" (--from), but there is no such interface: its traffic is intercepted as soon "
            "as it appears",
            judged.ownership.name),
        name, advise("`ip link` lists what there is; make the interface, or give another --from")));
  }
  return findings;
}

/// Interfaces towards targets: those with a default route, or all where there is none.
std::vector<const Interface*> ways_out(const Facts& facts) {
  std::set<std::string> names;
  for (const RouteSpec& route : facts.survey.routes) {
    const bool is_default = route.destination.length() == 0 && !route.local && route.table.value == kMainTable;
    if (is_default && !route.device.empty()) names.insert(route.device);
  }
  std::vector<const Interface*> found;
  for (const Interface& interface : facts.interfaces) {
    const bool usable = interface.link.name != "lo" && interface.link.up && interface.has_address;
    if (usable && (names.empty() || names.contains(interface.link.name))) found.push_back(&interface);
  }
  return found;
}

Findings check_mtu(const Facts& facts) {
  std::set<std::string> named;
  Findings findings;
  for (const Interface* out : ways_out(facts)) {
    for (const Interface& arriving : facts.interfaces) {
      const bool relevant = is_covered(facts, arriving.link.name) && arriving.link.up && arriving.has_address;
      if (!relevant || arriving.link.mtu == out->link.mtu) continue;
      const bool arriving_is_larger = arriving.link.mtu > out->link.mtu;
      const LinkInfo& larger = arriving_is_larger ? arriving.link : out->link;
      const LinkInfo& smaller = arriving_is_larger ? out->link : arriving.link;
      if (!named.insert(larger.name).second) continue;
      findings.push_back(warning(
          Group::routing, "mtu",
          fmt::format(
              "MTU {} on {}, {} on {}: larger datagrams are fragmented, or lost where ICMP is; connections adapt, each "
              "leg by itself",
              larger.mtu, larger.name, smaller.mtu, smaller.name),
          larger.name,
          Remedy{.commands = {{"ip", "link", "set", "dev", larger.name, "mtu", std::to_string(smaller.mtu)}}}));
    }
  }
  if (findings.empty()) findings.push_back(ok(Group::routing, "mtu", "the interfaces concerned have one MTU"));
  return findings;
}

}  // namespace

Findings check_routing(const Facts& facts) {
  Findings findings;
  for (const Judged& judged : facts.judged) {
    if (judged.installed) append(findings, check_clashes(facts, judged));
    append(findings, check_precedence(facts, judged));
    append(findings, check_interfaces(facts, judged));
  }
  append(findings, check_delivery(facts));
  append(findings, check_networkd(facts));
  append(findings, check_network_manager(facts));
  append(findings, check_return_path(facts));
  if (!facts.judged.empty()) append(findings, check_mtu(facts));
  return findings;
}

}  // namespace limpid::doctor
