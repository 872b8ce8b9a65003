// See doctor.h. The probe comes before the checks: what it proves counts more than what rules look like.
#include "doctor/doctor.h"

#include <algorithm>
#include <array>

#include "doctor/checks.h"
#include "doctor/facts.h"
#include "doctor/live_probe.h"

namespace limpid::doctor {
namespace {

constexpr std::array kGroups = {Group::privileges, Group::kernel,  Group::installation,
                                Group::listener,   Group::routing, Group::sysctls,
                                Group::firewall,   Group::limits,  Group::probe};

/// Each has a section in docs/doctor.md.
constexpr std::array<std::string_view, 52> kIds = {"capabilities",
                                                   "user-namespaces",
                                                   "processes",
                                                   "trials",
                                                   "nft-features",
                                                   "policy-routing",
                                                   "transparent-sockets",
                                                   "nft-tproxy",
                                                   "nft-socket",
                                                   "xt-tproxy",
                                                   "xt-socket",
                                                   "xt-tproxy-legacy",
                                                   "xt-socket-legacy",
                                                   "bpf-tc",
                                                   "bpf-sk-lookup",
                                                   "installation",
                                                   "rules-missing",
                                                   "left-over",
                                                   "orphans",
                                                   "foreign-table",
                                                   "listener",
                                                   "listener-transparent",
                                                   "wan-exposure",
                                                   "mark-clash",
                                                   "table-clash",
                                                   "priority-clash",
                                                   "rule-order",
                                                   "mark-not-delivered",
                                                   "networkd",
                                                   "networkmanager",
                                                   "return-path",
                                                   "mtu",
                                                   "loopback",
                                                   "ipv6-off",
                                                   "rp-filter",
                                                   "src-valid-mark",
                                                   "br-netfilter",
                                                   "forwarding",
                                                   "route-localnet",
                                                   "rules",
                                                   "input-drop",
                                                   "rules-before",
                                                   "mark-overwritten",
                                                   "socket-not-transparent",
                                                   "divert-behind-tproxy",
                                                   "descriptors",
                                                   "conntrack",
                                                   "ports",
                                                   "memory",
                                                   "probe",
                                                   "probe-not-intercepted",
                                                   "probe-routing"};
constexpr std::array<std::string_view, 5> kMoreIds = {"probe-prerouting", "probe-listener", "probe-return",
                                                      "answer-drop", "interface-missing"};

bool is_group(std::string_view text) {
  return std::ranges::any_of(kGroups, [&](Group group) { return name_of(group) == text; });
}

/// An id may belong to any group.
bool wants(const Examination& examination, Group group) {
  return examination.only.empty() || !is_group(examination.only) || examination.only == name_of(group);
}

Findings probe(Facts& facts, const Examination& examination) {
  Findings findings;
  for (const Judged& judged : facts.judged) {
    append(findings, probe_live(facts, judged, {.via = examination.via}));
    if (examination.target && examination.as)
      append(findings, probe_return_path(judged, *examination.target, *examination.as));
  }
  if (facts.judged.empty())
    findings.push_back(skipped(Group::probe, "probe", "nothing is installed that could be probed"));
  return findings;
}

Findings no_privileges() {
  Finding finding = skipped(Group::probe, "probe", "needs CAP_NET_ADMIN and CAP_SYS_ADMIN");
  finding.not_permitted = true;
  return {std::move(finding)};
}

}  // namespace

bool is_known(std::string_view text) {
  return is_group(text) || std::ranges::find(kIds, text) != kIds.end() ||
         std::ranges::find(kMoreIds, text) != kMoreIds.end();
}

Result<Findings> examine(const Examination& examination) {
  auto facts = collect_facts({.name = examination.name, .planned = examination.planned});
  if (!facts) return std::unexpected(facts.error());
  Findings probed;
  // The groups whose checks the probe informs.
  const bool needs_probe = wants(examination, Group::probe) || wants(examination, Group::listener) ||
                           wants(examination, Group::firewall) || wants(examination, Group::sysctls);
  constexpr std::string_view kLeftOut = "left out: --no-probe";
  if (!examination.probes) {
    probed.push_back(skipped(Group::probe, "probe", std::string(kLeftOut)));
  } else if (needs_probe) {
    probed = facts->may_change_network ? probe(*facts, examination) : no_privileges();
  }

  Findings findings;
  const auto add = [&](Group group, auto&& check) {
    if (wants(examination, group)) append(findings, check());
  };
  add(Group::privileges, [&] {
    Findings found = try_privileges();
    append(found, check_processes(*facts));
    return found;
  });
  add(Group::kernel, [&] {
    return examination.probes ? try_kernel() : Findings{skipped(Group::kernel, "trials", std::string(kLeftOut))};
  });
  add(Group::installation, [&] { return check_installation(*facts); });
  add(Group::listener, [&] { return check_listener(*facts); });
  add(Group::routing, [&] { return check_routing(*facts); });
  add(Group::sysctls, [&] { return check_sysctls(*facts); });
  add(Group::firewall, [&] { return check_firewall(*facts); });
  add(Group::limits, [&] { return check_limits(*facts); });
  append(findings, std::move(probed));
  std::erase_if(findings, [&](const Finding& finding) {
    return !examination.only.empty() && finding.id != examination.only && name_of(finding.group) != examination.only;
  });
  return findings;
}

}  // namespace limpid::doctor
