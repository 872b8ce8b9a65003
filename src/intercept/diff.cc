// Compares a plan with the kernel. The nft table, or the iptables rules, are loaded in a throw-away network namespace and listed there, so
// both sides of the comparison are the program's own canonical text, whatever its version. Rules, routes and sysctls are compared as values.
#include <fmt/format.h>

#include <algorithm>

#include "intercept/ebpf.h"
#include "intercept/install.h"
#include "intercept/nft.h"
#include "intercept/trial.h"
#include "intercept/xtables.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

/// Longest common subsequences cost the product of both lengths; past this, lines are compared as sets.
constexpr std::size_t kLongestCompared = 3000;

using Lines = std::vector<std::string_view>;

Lines split_lines(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

/// What diff(1) would say of two texts that have neither head nor tail in common.
std::vector<std::string> compare_by_order(const Lines& planned, const Lines& live) {
  const std::size_t width = live.size() + 1;
  std::vector<std::uint16_t> common((planned.size() + 1) * width, 0);  // [i][j]: longest in planned[i…] and live[j…]
  for (std::size_t i = planned.size(); i-- > 0;) {
    for (std::size_t j = live.size(); j-- > 0;) {
      common[i * width + j] = planned[i] == live[j] ? static_cast<std::uint16_t>(common[(i + 1) * width + j + 1] + 1)
                                                    : std::max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  std::vector<std::string> differences;
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < planned.size() || j < live.size()) {
    if (i < planned.size() && j < live.size() && planned[i] == live[j]) {
      ++i;
      ++j;
    } else if (j == live.size() || (i < planned.size() && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      differences.push_back(fmt::format("- {}", planned[i++]));
    } else {
      differences.push_back(fmt::format("+ {}", live[j++]));
    }
  }
  return differences;
}

std::vector<std::string> compare_as_sets(Lines planned, Lines live) {
  std::ranges::sort(planned);
  std::ranges::sort(live);
  std::vector<std::string> differences;
  Lines only;
  std::ranges::set_difference(planned, live, std::back_inserter(only));
  for (const auto line : only) differences.push_back(fmt::format("- {}", line));
  only.clear();
  std::ranges::set_difference(live, planned, std::back_inserter(only));
  for (const auto line : only) differences.push_back(fmt::format("+ {}", line));
  return differences;
}

std::vector<std::string> compare_texts(std::string_view planned_text, std::string_view live_text) {
  Lines planned = split_lines(planned_text);
  Lines live = split_lines(live_text);
  while (!planned.empty() && !live.empty() && planned.back() == live.back()) {
    planned.pop_back();
    live.pop_back();
  }
  const auto [planned_from, live_from] = std::ranges::mismatch(planned, live);
  planned.erase(planned.begin(), planned_from);
  live.erase(live.begin(), live_from);
  const bool is_small = planned.size() <= kLongestCompared && live.size() <= kLongestCompared;
  return is_small ? compare_by_order(planned, live) : compare_as_sets(std::move(planned), std::move(live));
}

/// A listing without what the rules themselves have put into sets since: those are of the plan, their elements are not.
std::string without_remembered_elements(std::string_view listing) {
  std::string text;
  bool dynamic = false;
  bool skipping = false;
  for (const std::string_view line : split_lines(listing)) {
    if (line.ends_with('{')) dynamic = false;
    if (line.find("\tflags dynamic") != std::string_view::npos) dynamic = true;
    if (dynamic && line.find("\telements = {") != std::string_view::npos) skipping = true;
    if (!skipping) text.append(line).push_back('\n');
    if (line.ends_with('}')) skipping = false;
  }
  return text;
}

Result<std::string> list_nft_tables(const Plan& plan) {
  std::string text;
  for (const NftTableName& table : tables_of(plan)) {
    auto listing = list_nft_table(table);
    if (!listing) return std::unexpected(listing.error());
    text += listing->value_or("");
  }
  return text;
}

/// Our pieces in the kernel, of the plan's backend. Of both families: what is left of a family that is not in scope differs, too.
Result<std::vector<XtablesPiece>> find_pieces(const Plan& plan) {
  std::vector<XtablesPiece> all;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    auto pieces = find_xtables(plan.inputs.ownership.backend, family);
    if (!pieces) return pieces;
    std::ranges::copy_if(*pieces, std::back_inserter(all),
                         [&](const XtablesPiece& piece) { return piece.name == plan.inputs.ownership.name; });
  }
  return all;
}

/// The canonical form of what the plan loads: nft's own, or iptables'.
Result<std::string> canonical_listing(const Plan& plan) {
  if (plan.inputs.ownership.backend == Backend::ebpf) return planned_ebpf_listing(plan);
  return try_in_new_namespace([&](bool) -> Result<std::string> {
    if (auto loaded = load_rules(plan, {}); !loaded) return std::unexpected(loaded.error());
    if (!is_iptables(plan.inputs.ownership.backend)) return list_nft_tables(plan);
    auto pieces = find_pieces(plan);
    if (!pieces) return std::unexpected(pieces.error());
    return to_listing(*pieces);
  });
}

/// Planned ones that are not there, and ours that are there but not planned: those of the plan's table and priorities.
template <class Spec>
void compare_specs(const std::vector<Spec>& planned, const std::vector<Spec>& live,
                   std::vector<std::string>& differences) {
  for (const Spec& spec : planned) {
    const auto count = std::ranges::count(live, spec);
    if (count == 0) differences.push_back("missing: " + describe(spec));
    if (count > 1) differences.push_back("duplicate: " + describe(spec));
  }
  for (const Spec& spec : live) {
    if (std::ranges::find(planned, spec) == planned.end()) differences.push_back("unexpected: " + describe(spec));
  }
}

/// `and_others`: what others have put in the places of our rules counts too.
Status compare_routing(const Plan& plan, bool and_others, std::vector<std::string>& differences) {
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  const Ownership& owner = plan.inputs.ownership;
  std::vector<RuleSpec> rules;
  std::vector<RouteSpec> routes;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    auto all_rules = socket->rules(family);
    if (!all_rules) return std::unexpected(all_rules.error());
    std::ranges::copy_if(*all_rules, std::back_inserter(rules), [&](const RuleSpec& rule) {
      return rule.priority >= owner.priority && rule.priority.value - owner.priority.value < 3 &&
             (and_others || rule.protocol == kRouteProtocol);
    });
    auto all_routes = socket->routes(family);
    if (!all_routes) return std::unexpected(all_routes.error());
    std::ranges::copy_if(*all_routes, std::back_inserter(routes),
                         [&](const RouteSpec& route) { return route.table == owner.table; });
  }
  compare_specs(plan.routes, routes, differences);
  compare_specs(plan.rules, rules, differences);
  return {};
}

Status compare_sysctls(const Plan& plan, std::vector<std::string>& differences) {
  for (const SysctlChange& change : plan.sysctls) {
    const auto current = read_sysctl(change.key);
    if (!current) return std::unexpected(current.error());
    if (*current != change.value)
      differences.push_back(fmt::format("differs: sysctl {} is {}, not {}", change.key, *current, change.value));
  }
  return {};
}

std::string missing_ebpf(const Plan& plan) {
  return fmt::format("missing: eBPF programs of \"{}\"", plan.inputs.ownership.name);
}

/// The listing of what the plan loads; empty, with a line in `differences`, where a table is missing.
Result<std::optional<std::string>> list_tables(const Plan& plan, std::vector<std::string>& differences) {
  std::string text;
  if (plan.inputs.ownership.backend == Backend::ebpf) {
    auto listing = live_ebpf_listing(plan);
    if (!listing) return std::unexpected(listing.error());
    if (listing->empty()) differences.push_back(missing_ebpf(plan));
    return listing->empty() ? std::optional<std::string>() : std::optional(std::move(*listing));
  }
  if (is_iptables(plan.inputs.ownership.backend)) {
    const auto pieces = find_pieces(plan);
    if (!pieces) return std::unexpected(pieces.error());
    return std::optional(to_listing(*pieces));
  }
  for (const NftTableName& table : tables_of(plan)) {
    auto listing = list_nft_table(table);
    if (!listing) return std::unexpected(listing.error());
    if (!listing->has_value()) {
      differences.push_back(fmt::format("missing: nft table {}", table.to_string()));
      return std::optional<std::string>();
    }
    text += without_remembered_elements(**listing);
  }
  return std::optional(std::move(text));
}

}  // namespace

Result<std::string> list_installed(const Plan& plan) {
  std::vector<std::string> missing;
  auto listing = list_tables(plan, missing);
  if (!listing) return std::unexpected(listing.error());
  if (!*listing) return failure("list", "what is installed", missing.front());
  return std::move(**listing);
}

Result<std::vector<std::string>> find_drift(const Plan& plan, std::string_view installed) {
  std::vector<std::string> differences;
  if (auto compared = compare_sysctls(plan, differences); !compared) return std::unexpected(compared.error());
  if (auto compared = compare_routing(plan, /*and_others=*/false, differences); !compared)
    return std::unexpected(compared.error());
  if (plan.inputs.ownership.backend == Backend::ebpf) {
    // Interfaces come and go: what should be there now, not what was there at first.
    const auto listings = settled_ebpf_listings(plan);
    if (!listings) return std::unexpected(listings.error());
    if (listings->live.empty()) {
      differences.push_back(missing_ebpf(plan));
    } else {
      std::ranges::move(compare_texts(listings->planned, listings->live), std::back_inserter(differences));
    }
    return differences;
  }
  const auto live = list_tables(plan, differences);
  if (!live) return std::unexpected(live.error());
  if (!*live) return differences;
  std::ranges::move(compare_texts(installed, **live), std::back_inserter(differences));
  return differences;
}

Result<std::vector<std::string>> diff_plan(const Plan& plan) {
  std::vector<std::string> differences;
  if (auto compared = compare_sysctls(plan, differences); !compared) return std::unexpected(compared.error());
  if (auto compared = compare_routing(plan, /*and_others=*/true, differences); !compared)
    return std::unexpected(compared.error());

  const auto live = list_tables(plan, differences);
  if (!live) return std::unexpected(live.error());
  if (!*live) return differences;
  auto planned = canonical_listing(plan);
  if (!planned) return std::unexpected(planned.error());
  std::ranges::move(compare_texts(*planned, **live), std::back_inserter(differences));
  return differences;
}

}  // namespace limpid
