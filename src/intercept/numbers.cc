// Chooses marks, table ids and rule priorities beside what is in the kernel already, and gathers the inputs of a plan.
// Pure: looks at a Survey, not at the kernel.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "intercept/ebpf_policy.h"
#include "intercept/local_traffic.h"
#include "intercept/survey.h"
#include "net/interface_name.h"

namespace limpid {
namespace {

/// Two bits each, the best first. Known users: Tailscale 0xff0000, Kubernetes 0xc000, mwan3 0x3f00, Cilium 0xf00,
/// Calico 0xffff0000 (chosen by itself at run time, so the high bits are still the best); people who write rules by
/// hand begin at 1.
constexpr std::array<std::uint32_t, 16> kFieldMasks = {
    0x03000000, 0x0c000000, 0x30000000, 0xc0000000, 0x00003000, 0x000000c0, 0x00000030, 0x0000000c,
    0x00000003, 0x0000c000, 0x00000300, 0x00000c00, 0x00c00000, 0x00300000, 0x000c0000, 0x00030000};
constexpr std::uint32_t kWholeMark = 0xffffffff;

constexpr std::uint32_t kFirstTable = 7676;
constexpr std::uint32_t kPreferredPriority = 100;
constexpr std::uint32_t kRulesPerFamily = 3;
constexpr std::uint32_t kMainRulePriority = 32766;

/// What others have: everything but the left-over that is going to be replaced, and what a crash left of ours without a
/// table (the next installation removes it).
struct Surroundings {
  std::vector<RuleSpec> rules;
  std::vector<RouteSpec> routes;
  const Survey* survey = nullptr;
  const Ownership* left_over = nullptr;
};

Surroundings look_around(const Survey& survey, const std::string& name) {
  Surroundings around;
  around.survey = &survey;
  for (const FoundInstallation& found : survey.installations) {
    if (found.name == name) around.left_over = &found.ownership;
  }
  const auto is_anothers = [&](const auto& belongs_to) {
    return std::ranges::any_of(survey.installations,
                               [&](const FoundInstallation& f) { return f.name != name && belongs_to(f.ownership); });
  };
  for (const RuleSpec& rule : survey.rules) {
    if (rule.protocol == kRouteProtocol && !is_anothers([&](const Ownership& o) { return owns(o, rule); })) continue;
    around.rules.push_back(rule);
  }
  for (const RouteSpec& route : survey.routes) {
    if (route.protocol == kRouteProtocol && !is_anothers([&](const Ownership& o) { return owns(o, route); })) continue;
    around.routes.push_back(route);
  }
  return around;
}

/// A rule with a mask of its own claims the bits of that mask. One without (the whole mark) compares a number: it is in
/// the way only if that number has one of our bits.
bool is_in_the_way(const RuleSpec& rule, std::uint32_t mask) {
  if (!rule.mark) return false;
  return ((rule.mark->mask == kWholeMark ? rule.mark->value : rule.mark->mask) & mask) != 0;
}

const RuleSpec* user_of_mark(const Surroundings& around, std::uint32_t mask) {
  const auto found =
      std::ranges::find_if(around.rules, [&](const RuleSpec& rule) { return is_in_the_way(rule, mask); });
  return found == around.rules.end() ? nullptr : &*found;
}

Result<MarkField> choose_mark(const Surroundings& around, const std::optional<Mark>& given) {
  if (given) {
    auto field = MarkField::from(*given);
    if (!field) return field;
    if (const RuleSpec* user = user_of_mark(around, field->mask)) {
      return failure("use", fmt::format("--mark {}", given->to_string()),
                     fmt::format("`{}` uses these bits", describe(*user)), "choose other bits, or leave out --mark");
    }
    return field;
  }
  if (around.left_over != nullptr) return around.left_over->mark;
  for (const std::uint32_t mask : kFieldMasks) {
    // The lower bit intercepts, the upper one bypasses.
    if (user_of_mark(around, mask) == nullptr) return MarkField::from({.value = mask & (~mask + 1), .mask = mask});
  }
  return failure("choose", "a packet mark", "every bit of it is used by `ip rule`",
                 "name two bits that you know to be free: --mark VALUE/MASK");
}

/// Who uses a table, in words; empty: nobody.
std::string user_of_table(const Surroundings& around, std::uint32_t table) {
  for (const RouteSpec& route : around.routes) {
    if (route.table.value == table) return fmt::format("`{}` is in it", describe(route));
  }
  for (const RuleSpec& rule : around.rules) {
    if (rule.action == RuleAction::lookup && rule.table.value == table)
      return fmt::format("`{}` leads to it", describe(rule));
  }
  if (std::ranges::find(around.survey->named_tables, table) != around.survey->named_tables.end()) {
    return "/etc/iproute2/rt_tables names it";
  }
  return {};
}

Result<TableId> choose_table(const Surroundings& around, const std::optional<TableId>& given) {
  if (given) {
    const bool reserved = given->value == 0 || (given->value >= 253 && given->value <= 255);
    if (reserved) {
      return usage_error("use", fmt::format("--table {}", given->value), "the kernel's own table",
                         "give a number that nothing uses, such as 7676");
    }
    if (const std::string user = user_of_table(around, given->value); !user.empty()) {
      return failure("use", fmt::format("--table {}", given->value), user, "choose another, or leave out --table");
    }
    return *given;
  }
  if (around.left_over != nullptr) return around.left_over->table;
  std::set<std::uint32_t> taken(around.survey->named_tables.begin(), around.survey->named_tables.end());
  for (const RouteSpec& route : around.routes) taken.insert(route.table.value);
  for (const RuleSpec& rule : around.rules) taken.insert(rule.table.value);
  std::uint32_t table = kFirstTable;
  while (taken.contains(table)) ++table;
  return TableId{table};
}

const RuleSpec* user_of_priorities(const Surroundings& around, std::uint32_t first) {
  const auto found = std::ranges::find_if(around.rules, [&](const RuleSpec& rule) {
    return rule.priority.value >= first && rule.priority.value - first < kRulesPerFamily;
  });
  return found == around.rules.end() ? nullptr : &*found;
}

Result<RulePriority> choose_priority(const Surroundings& around, const std::optional<RulePriority>& given) {
  if (given) {
    const std::uint32_t first = given->value;
    if (first == 0 || first > kMainRulePriority - kRulesPerFamily) {
      return usage_error("use", fmt::format("--priority {}", first), "not a place before the main table's rule",
                         fmt::format("give 1 to {}; {} priorities from there are used",
                                     kMainRulePriority - kRulesPerFamily, kRulesPerFamily));
    }
    if (const RuleSpec* user = user_of_priorities(around, first)) {
      return failure(
          "use", fmt::format("--priority {}", first),
          fmt::format("`{}` is there, and {} to {} are needed", describe(*user), first, first + kRulesPerFamily - 1),
          "choose another, or leave out --priority");
    }
    return *given;
  }
  if (around.left_over != nullptr) return around.left_over->priority;
  // Before every other rule: one that matches our packets earlier would route them elsewhere. The rule at 0 is the
  // local table's.
  std::uint32_t earliest = kMainRulePriority;
  for (const RuleSpec& rule : around.rules) {
    if (rule.priority.value != 0) earliest = std::min(earliest, rule.priority.value);
  }
  if (earliest >= kPreferredPriority + kRulesPerFamily) return RulePriority{kPreferredPriority};
  if (earliest > kRulesPerFamily) return RulePriority{earliest - kRulesPerFamily};
  for (std::uint32_t first = 1; first + kRulesPerFamily <= kMainRulePriority; ++first) {
    if (user_of_priorities(around, first) == nullptr) return RulePriority{first};
  }
  return failure("choose", "rule priorities", "no three in a row are free before the main table's rule",
                 "remove policy rules that nothing needs (`ip rule`)");
}

void switch_on_forwarding(PlanInputs& inputs, const Survey& survey, const Ownership* left_over,
                          bool enable_forwarding) {
  // What a left-over switched on is on because of us: it stays ours to put back, whether or not this plan would need
  // it.
  const auto is_ours = [&](char family) {
    return left_over != nullptr && left_over->sysctls.find(family) != std::string::npos;
  };
  const auto add = [&](char family, std::string_view key) {
    inputs.sysctls.push_back({.key = std::string(key), .value = "1", .previous = "0"});
    inputs.ownership.sysctls += family;
  };
  // On only because another installation switched it on: the last of us puts it back.
  const auto is_anothers = [&](char family) {
    return std::ranges::any_of(survey.installations, [&](const FoundInstallation& found) {
      return found.name != inputs.ownership.name && found.ownership.sysctls.find(family) != std::string::npos;
    });
  };
  const bool wants_ipv4 = enable_forwarding && inputs.scope.ipv4 && (!survey.forwarding_ipv4 || is_anothers('4'));
  const bool wants_ipv6 = enable_forwarding && inputs.scope.ipv6 && (!survey.forwarding_ipv6 || is_anothers('6'));
  if (wants_ipv4 || is_ours('4')) add('4', kForwardingIpv4);
  if (wants_ipv6 || is_ours('6')) add('6', kForwardingIpv6);
}

/// A left-over of ours may be why it is on already: then it stays ours to put back.
void accept_local_sources(PlanInputs& inputs, const Survey& survey) {
  const bool is_ours = std::ranges::any_of(survey.installations, [](const FoundInstallation& found) {
    return found.ownership.sysctls.find('l') != std::string::npos;
  });
  if (survey.accepts_local_sources && !is_ours) return;
  inputs.sysctls.push_back(sysctl_of('l'));
  inputs.ownership.sysctls += 'l';
}

/// Whether the networks of a scope leave anything of a family: those of the other family exclude it.
bool can_match(const Scope& scope, Family family) {
  const auto none_of_it = [&](const std::vector<Prefix>& networks) {
    return !networks.empty() && std::ranges::none_of(networks, [&](const Prefix& p) { return p.family() == family; });
  };
  if (none_of_it(scope.to_prefixes)) return false;
  if (scope.local) return true;
  return !scope.from_interfaces.empty() || !none_of_it(scope.from_prefixes);
}

Status check_local(const Survey& survey, const InterceptionOptions& options) {
  const Scope& scope = options.scope;
  if (!scope.forwarded && !scope.local)
    return usage_error("plan", "", "neither forwarded nor local traffic is in scope", "");
  if (!scope.local) return {};
  if (options.keeps_source_port) return refuse_kept_port("");
  for (const Programs* programs : {&scope.local->only, &scope.local->never}) {
    for (const std::string& cgroup : programs->cgroups) {
      if (auto valid = validate_cgroup(cgroup); !valid) return valid;
    }
  }
  // Each would take the other's connections for those of a program here, for ever.
  const auto other = std::ranges::find_if(
      survey.installations, [&](const FoundInstallation& f) { return f.ownership.local && f.name != options.name; });
  if (other == survey.installations.end()) return {};
  return failure("install", "--local",
                 fmt::format("the instance {} intercepts this host's own traffic already", other->name),
                 fmt::format("end it first, or `limpid rules remove --name {}` if it was installed with `rules apply`",
                             other->name));
}

Status check_options(const Survey& survey, const InterceptionOptions& options) {
  if (auto name = check_instance_name(options.name); !name) return name;
  if (options.scope.tcp.empty() && options.scope.udp.empty()) {
    return usage_error("plan", "", "no ports given", "for example TCP ports 80 and 443");
  }
  if (options.listener.value == 0)
    return usage_error("plan", "", "no listener port given", "for example --listen-port 1080");
  if (options.needs_conntrack && options.keeps_source_port) {
    return usage_error("plan", "",
                       "a proxy that asks conntrack for the original destination cannot keep the client's port",
                       "both legs would have to be kept out of conntrack");
  }
  for (const std::string& interface : options.scope.from_interfaces) {
    if (auto valid = validate_interface_name(interface); !valid) return std::unexpected(valid.error());
  }
  const auto foreign = std::ranges::find(survey.foreign_tables, table_name_of(options.name), &NftTableName::name);
  if (foreign != survey.foreign_tables.end()) {
    return failure("install", fmt::format("nft table {}", foreign->to_string()),
                   "a table of that name exists that Limpid did not make",
                   fmt::format("look at `nft list table {}`; choose another --name", foreign->to_string()));
  }
  return check_local(survey, options);
}

}  // namespace

Result<Numbers> choose_numbers(const Survey& survey, const InterceptionOptions& options) {
  const Surroundings around = look_around(survey, options.name);
  auto mark = choose_mark(around, options.mark);
  if (!mark) return std::unexpected(mark.error());
  auto table = choose_table(around, options.table);
  if (!table) return std::unexpected(table.error());
  auto priority = choose_priority(around, options.priority);
  if (!priority) return std::unexpected(priority.error());
  return Numbers{.mark = *mark, .table = *table, .priority = *priority};
}

std::vector<std::string> fail_closed_warnings(const InterceptionOptions& options) {
  // net.ipv4.ip_local_port_range's default: the ports from which most clients call.
  constexpr PortRange kEphemeral{.first = Port{32768}, .last = Port{60999}};
  const bool covers = std::ranges::any_of(options.scope.tcp.ranges(), [&](const PortRange& range) {
    return range.first <= kEphemeral.last && kEphemeral.first <= range.last;
  });
  if (options.fail == FailMode::open || !options.scope.forwarded || !covers) return {};
  return {
      "--fail closed with ports that clients choose for themselves (32768-60999): answers to connections that are "
      "opened from "
      "outside are rejected too (name the servers' ports, or restrict the scope with --to-net)"};
}

std::vector<std::string> precedence_warnings(const Survey& survey, const Numbers& numbers) {
  std::vector<std::string> warnings;
  for (const RuleSpec& rule : survey.rules) {
    // Up to where ours delivers: at the same priority, the rule that was added first comes first (fib_nl_newrule).
    const bool before = rule.priority.value != 0 && rule.priority.value <= numbers.priority.value + 1;
    // One for other marks does not match our packets; one of another instance of ours neither.
    if (!before || rule.protocol == kRouteProtocol || (rule.mark && !is_in_the_way(rule, numbers.mark.mask))) continue;
    warnings.push_back(fmt::format(
        "`{}` comes before our rule at priority {}: what it routes is not intercepted but lost (move it behind "
        "priority {}, or give a smaller --priority)",
        describe(rule), numbers.priority.value + 1, numbers.priority.value + kRulesPerFamily - 1));
  }
  return warnings;
}

Result<PlanInputs> prepare_inputs(const Survey& survey, const InterceptionOptions& options, Keeper keeper,
                                  bool enable_forwarding) {
  if (auto checked = check_options(survey, options); !checked) return std::unexpected(checked.error());
  auto numbers = choose_numbers(survey, options);
  if (!numbers) return std::unexpected(numbers.error());

  if (options.fail == FailMode::closed && options.scope.ipv6 && !survey.ipv6_available &&
      (survey.forwarding_ipv6 || options.scope.local)) {
    return unsupported(
        "plan", "", "IPv6 is off on the loopback interface but may be used here, so it would pass a fail-closed scope",
        "sysctl -w net.ipv6.conf.lo.disable_ipv6=0, or leave IPv6 out with --ipv4-only");
  }
  PlanInputs inputs;
  inputs.scope = options.scope;
  inputs.scope.ipv4 = options.scope.ipv4 && can_match(options.scope, Family::ipv4);
  inputs.scope.ipv6 = options.scope.ipv6 && can_match(options.scope, Family::ipv6) && survey.ipv6_available;
  if (!inputs.scope.ipv4 && !inputs.scope.ipv6) {
    if (options.scope.ipv6 && can_match(options.scope, Family::ipv6)) {
      return unsupported("plan", "", "only IPv6 was asked for, and it is off on this host",
                         "see `sysctl net.ipv6.conf.lo.disable_ipv6`");
    }
    return usage_error("plan", "", "no connection can match: the networks are of different families",
                       "give source and destination networks of one family");
  }
  inputs.fail = options.fail;
  inputs.keeps_source_port = options.keeps_source_port;
  inputs.needs_conntrack = options.needs_conntrack;
  inputs.guards_listener = options.guards_listener;
  inputs.client_ports = survey.client_ports;
  inputs.ownership = {.name = options.name,
                      .keeper = keeper,
                      .mark = numbers->mark,
                      .table = numbers->table,
                      .priority = numbers->priority,
                      .listener = options.listener,
                      .sysctls = {},
                      .local = options.scope.local.has_value(),
                      // A program of this host holds its own port.
                      .keeps_udp_port = options.keeps_udp_port && !options.scope.udp.empty() && !options.scope.local,
                      .heartbeat = is_iptables(options.backends.front()) && keeper == Keeper::process,
                      .backend = options.backends.front()};
  switch_on_forwarding(inputs, survey, look_around(survey, options.name).left_over, enable_forwarding);
  if (inputs.ownership.backend == Backend::ebpf) {
    if (auto able = require_ebpf_can(inputs); !able) return std::unexpected(able.error());
    if (inputs.ownership.local && inputs.scope.ipv4) accept_local_sources(inputs, survey);
  }
  return inputs;
}

}  // namespace limpid
