// Settings of the kernel that drop intercepted packets without a message, or open what should be closed.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "doctor/checks.h"

namespace limpid::doctor {
namespace {

constexpr int kStrict = 1;  // rp_filter, Documentation/networking/ip-sysctl.rst

std::string key_of(const Interface& interface, std::string_view name) {
  return fmt::format("net.ipv4.conf.{}.{}", sysctl_name(interface.link.name), name);
}

bool is_concerned(const Facts& facts, const Interface& interface) {
  if (interface.link.name == "lo" || !interface.link.up) return false;
  return facts.judged.empty() || is_covered(facts, interface.link.name);
}

Findings check_reverse_path(const Facts& facts) {
  Findings findings;
  bool any = false;
  const std::uint64_t dropped = facts.reverse_path_drops;
  for (const Interface& interface : facts.interfaces) {
    if (!is_concerned(facts, interface) || interface.rp_filter.effective() != kStrict) continue;
    any = true;
    const std::string& name = interface.link.name;
    if (dropped == 0) {
      findings.push_back(ok(
          Group::sysctls, "rp-filter",
          "strict, and has dropped nothing: right as long as clients are routed back to where they come from", name));
      continue;
    }
    const std::string summary = fmt::format(
        "strict (all={}, {}={}), and {} packets have been dropped by it{}: it drops, silently, whatever arrives here "
        "from an "
        "address that is routed elsewhere",
        interface.rp_filter.all, name, interface.rp_filter.own, dropped,
        facts.reverse_path_drops_rise ? ", just now too" : "");
    const Remedy remedy = set_sysctls({{"net.ipv4.conf.all.rp_filter", "2"}, {key_of(interface, "rp_filter"), "2"}});
    findings.push_back(facts.reverse_path_drops_rise ? failure(Group::sysctls, "rp-filter", summary, name, remedy)
                                                     : warning(Group::sysctls, "rp-filter", summary, name, remedy));
  }
  for (const Disturbance& found : facts.strict_ways_out) {
    if (is_covered(facts, found.interface)) continue;  // judged above
    any = true;
    findings.push_back(warning(Group::sysctls, "rp-filter", found.what, found.interface, set_sysctls(found.sysctls)));
  }
  if (!any) {
    findings.push_back(
        ok(Group::sysctls, "rp-filter",
           fmt::format("not strict where it matters ({} martians since boot, all network namespaces together)",
                       facts.martian_sources)));
  }
  return findings;
}

/// A table that says of every address that it is this host's.
bool is_local_table(const Facts& facts, TableId table) {
  return std::ranges::any_of(facts.survey.routes, [&](const RouteSpec& route) {
    return route.local && route.table == table && route.destination == Prefix::everything(Family::ipv4);
  });
}

/// A rule by mark into such a table that source validation would follow too.
std::optional<RuleSpec> find_unguarded_rule(const Facts& facts) {
  for (const RuleSpec& rule : facts.survey.rules) {
    const bool delivers = rule.family == Family::ipv4 && rule.mark && rule.action == RuleAction::lookup &&
                          rule.input_interface.empty() && is_local_table(facts, rule.table);
    if (!delivers) continue;
    // With --local a third mark is delivered, which source validation of forwarded packets never sees.
    const bool is_local_mark = rule.mark->value == rule.mark->mask && rule.protocol == kRouteProtocol;
    const bool guarded = std::ranges::any_of(facts.survey.rules, [&](const RuleSpec& guard) {
      return guard.family == Family::ipv4 && guard.priority < rule.priority && guard.action == RuleAction::jump &&
             guard.input_interface == "lo" && guard.jump_target > rule.priority &&
             (!guard.mark || guard.mark == rule.mark);
    });
    if (!guarded && !is_local_mark) return rule;
  }
  return std::nullopt;
}

Findings check_valid_mark(const Facts& facts) {
  const auto rule = find_unguarded_rule(facts);
  Findings findings;
  for (const Interface& interface : facts.interfaces) {
    if (!is_concerned(facts, interface) || interface.src_valid_mark.effective() == 0) continue;
    const std::string& name = interface.link.name;
    if (!rule) {
      findings.push_back(ok(Group::sysctls, "src-valid-mark", "on, and the rule `iif lo` takes care of it", name));
      continue;
    }
    findings.push_back(failure(
        Group::sysctls, "src-valid-mark",
        fmt::format("on (all={}, {}={}): source validation follows `{}`, finds that every address is this host's, and "
                    "drops every "
                    "marked packet as a martian, silently",
                    interface.src_valid_mark.all, name, interface.src_valid_mark.own, describe(*rule)),
        name,
        set_sysctls({{"net.ipv4.conf.all.src_valid_mark", "0"}, {key_of(interface, "src_valid_mark"), "0"}}, false)));
  }
  if (findings.empty()) findings.push_back(ok(Group::sysctls, "src-valid-mark", "off where it matters"));
  return findings;
}

Findings check_bridges(const Facts& facts) {
  if (facts.judged.empty()) return {};
  Findings findings;
  for (const Disturbance& found : facts.bridges) {
    Remedy remedy = set_sysctls(found.sysctls, false);
    remedy.advice = found.caution;
    findings.push_back(is_covered(facts, found.interface)
                           ? failure(Group::sysctls, "br-netfilter", found.what, found.interface, std::move(remedy))
                           : warning(Group::sysctls, "br-netfilter", found.what, found.interface, std::move(remedy)));
  }
  if (findings.empty())
    findings.push_back(ok(Group::sysctls, "br-netfilter", "no bridge hands its frames to the IP chains"));
  return findings;
}

Findings check_forwarding(const Facts& facts) {
  const auto wanted = [&](bool Scope::* family) {
    return std::ranges::any_of(facts.judged, [&](const Judged& j) { return j.scope.forwarded && j.scope.*family; });
  };
  Findings findings;
  const auto check = [&](bool is_wanted, bool is_on, std::string_view family, std::string_view key) {
    if (!is_wanted) return;
    findings.push_back(is_on ? ok(Group::sysctls, "forwarding", "on", std::string(family))
                             : warning(Group::sysctls, "forwarding",
                                       "off: what is not intercepted does not pass through this host",
                                       std::string(family), set_sysctls({{std::string(key), "1"}}, false)));
  };
  check(wanted(&Scope::ipv4), facts.survey.forwarding_ipv4, "IPv4", kForwardingIpv4);
  check(wanted(&Scope::ipv6), facts.survey.forwarding_ipv6, "IPv6", kForwardingIpv6);
  return findings;
}

Findings check_route_localnet(const Facts& facts) {
  Findings findings;
  for (const Interface& interface : facts.interfaces) {
    if (interface.link.name == "lo" || interface.route_localnet.effective() == 0) continue;
    findings.push_back(warning(
        Group::sysctls, "route-localnet",
        fmt::format("on: whoever is beyond {} reaches what listens on 127.0.0.0/8 here, the proxy included",
                    interface.link.name),
        interface.link.name,
        set_sysctls({{"net.ipv4.conf.all.route_localnet", "0"}, {key_of(interface, "route_localnet"), "0"}}, false)));
  }
  if (findings.empty()) findings.push_back(ok(Group::sysctls, "route-localnet", "off everywhere"));
  return findings;
}

Findings check_loopback(const Facts& facts) {
  Findings findings;
  if (!loopback_is_up(facts)) {
    findings.push_back(failure(Group::sysctls, "loopback", "the loopback interface is down: nothing can be delivered",
                               "lo", mend({"ip", "link", "set", "lo", "up"})));
  }
  if (!facts.survey.ipv6_available) {
    findings.push_back(warning(Group::sysctls, "ipv6-off",
                               "IPv6 is off on the loopback interface: only IPv4 can be intercepted", "lo",
                               set_sysctls({{"net.ipv6.conf.lo.disable_ipv6", "0"}}, false)));
  }
  return findings;
}

}  // namespace

Findings check_sysctls(const Facts& facts) {
  Findings findings = check_loopback(facts);
  append(findings, check_reverse_path(facts));
  append(findings, check_valid_mark(facts));
  append(findings, check_bridges(facts));
  append(findings, check_forwarding(facts));
  append(findings, check_route_localnet(facts));
  return findings;
}

}  // namespace limpid::doctor
