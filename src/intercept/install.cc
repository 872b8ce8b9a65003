// Puts a plan into the kernel, whole or not at all. Called by the service, `limpid rules apply` and the public
// Interception; removing is in remove.cc.
//
// Order: sysctls, routes, rules, and last the nft table or iptables' table mangle, because only that captures. Every step leaves its inverse
// in a journal; when a later step fails, the journal is run backwards. What is there already and is exactly what the
// plan wants (a left-over of a crash) is adopted: not added, and not taken away by the roll-back. A left-over table is
// replaced within one nft transaction (chains within one iptables transaction for each table), so there is no moment without one of the two; rules and routes that only the old
// table needed go afterwards.
#include "intercept/install.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <ranges>
#include <tuple>
#include <utility>

#include "intercept/ebpf.h"
#include "intercept/found.h"
#include "intercept/heartbeat.h"
#include "intercept/local_traffic.h"
#include "intercept/nft.h"
#include "intercept/remove.h"
#include "intercept/trial.h"
#include "intercept/xtables.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

/// Inverses of what has been done so far; run backwards unless kept.
class Journal {
 public:
  Journal() = default;
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  Journal(Journal&&) = delete;
  Journal& operator=(Journal&&) = delete;
  ~Journal() {
    for (const auto& undo : undo_ | std::views::reverse) undo();
  }
  void add(std::function<void()> undo) { undo_.push_back(std::move(undo)); }
  void keep() { undo_.clear(); }

 private:
  std::vector<std::function<void()>> undo_;
};

std::string table_object(const Plan& plan) {
  const Backend backend = plan.inputs.ownership.backend;
  if (backend == Backend::nftables) return "nft table inet " + plan.table_name;
  return fmt::format("{} chains {}-*", to_string(backend), plan.table_name);
}

std::unexpected<Error> while_installing(Error error, const std::string& what) {
  error.operation = "install";
  error.object = what;
  if (error.kind == ErrorKind::unsupported && error.remedy.empty()) error.remedy = "needs CAP_NET_ADMIN: run as root";
  return std::unexpected(std::move(error));
}

/// A table of that name that is not ours is never replaced, nor are chains.
Status refuse_foreign(const Plan& plan, const Found& found) {
  const std::string foreign = found.foreign(plan.inputs.ownership.name);
  if (foreign.empty()) return {};
  return failure("install", foreign, "a table of that name exists that Limpid did not make",
                 foreign.starts_with("nft table")
                     ? fmt::format("look at `nft list {}`; choose another --name", foreign.substr(4))
                     : "look at `iptables-save`; choose another --name");
}

/// Through a loopback interface that is down IPv6 delivers nothing and takes no route, while IPv4 does: half a plan.
Status require_loopback(RouteSocket& socket) {
  auto links = socket.links();
  if (!links) return std::unexpected(links.error());
  const auto lo = std::ranges::find(*links, "lo", &LinkInfo::name);
  if (lo != links->end() && lo->up) return {};
  return failure("install", "local routes", "the loopback interface is down", "ip link set lo up");
}

Status set_sysctl(const SysctlChange& change, Journal& journal) {
  auto current = read_sysctl(change.key);
  if (!current) return std::unexpected(current.error());
  if (*current == change.value) return {};
  if (auto written = write_sysctl(change.key, change.value); !written) {
    return while_installing(written.error(), fmt::format("sysctl {}={}", change.key, change.value));
  }
  journal.add([key = change.key, value = *current] { std::ignore = write_sysctl(key, value); });
  return {};
}

template <class Spec, class List, class Add, class Delete>
Status add_missing(const std::vector<Spec>& wanted, Journal& journal, List list, Add add, Delete remove) {
  for (const Spec& spec : wanted) {
    auto present = list(spec);
    if (!present) return std::unexpected(present.error());
    if (std::ranges::find(*present, spec) != present->end()) continue;
    if (auto added = add(spec); !added) return while_installing(added.error(), describe(spec));
    journal.add([spec, remove] { remove(spec); });
  }
  return {};
}

Status add_routing(const Plan& plan, RouteSocket& socket, Journal& journal) {
  auto routes = add_missing(
      plan.routes, journal, [&](const RouteSpec& r) { return socket.routes(r.destination.family()); },
      [&](const RouteSpec& r) { return socket.add_route(r); },
      [&](const RouteSpec& r) { std::ignore = socket.delete_route(r); });
  if (!routes) return routes;
  return add_missing(
      plan.rules, journal, [&](const RuleSpec& r) { return socket.rules(r.family); },
      [&](const RuleSpec& r) { return socket.add_rule(r); },
      [&](const RuleSpec& r) { std::ignore = socket.delete_rule(r); });
}

Status check_nft(const Plan& plan) {
  auto checked = feed_nft(NftMode::check, render_nft_replacement(plan), table_object(plan));
  if (checked || checked.error().kind == ErrorKind::unsupported) return checked;
  if (const auto missing = find_missing_nft_feature(plan.inputs.ownership.local)) {
    return unsupported("check", table_object(plan), fmt::format("this kernel lacks {}", *missing));
  }
  return checked;
}

/// The very plan, in a namespace of its own: iptables-restore --test would look at the grammar only.
Status check_xtables(const Plan& plan) {
  const Backend backend = plan.inputs.ownership.backend;
  const auto checked = try_in_new_namespace([&](bool in_user_namespace) -> Result<std::string> {
    if (auto loaded = load_rules(plan, {}); !loaded) return std::unexpected(loaded.error());
    if (!in_user_namespace) {
      if (auto beaten = beat_heart(plan); !beaten) return std::unexpected(beaten.error());
    }
    return std::string();
  });
  if (checked) return {};
  const auto missing = find_missing_xtables_feature(backend, plan.inputs.scope);
  if (!missing) return std::unexpected(missing.error());
  if (*missing)
    return unsupported("check", table_object(plan),
                       fmt::format("{}: this host lacks {}", to_string(backend), **missing));
  return std::unexpected(checked.error());
}

/// Rules and routes of ours that an older plan of the same name and numbers needed, and this one does not: a family that is left out now.
void remove_outdated(const Plan& plan, RouteSocket& socket) {
  const Ownership& owner = plan.inputs.ownership;
  const auto is_outdated = [&owner](const auto& wanted, const auto& spec) {
    return spec.protocol == kRouteProtocol && owns(owner, spec) && std::ranges::find(wanted, spec) == wanted.end();
  };
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const auto rules = socket.rules(family);
    for (const RuleSpec& rule : rules ? *rules : std::vector<RuleSpec>()) {
      if (is_outdated(plan.rules, rule)) std::ignore = socket.delete_rule(rule);
    }
    const auto routes = socket.routes(family);
    for (const RouteSpec& route : routes ? *routes : std::vector<RouteSpec>()) {
      if (is_outdated(plan.routes, route)) std::ignore = socket.delete_route(route);
    }
  }
}

}  // namespace

Status check_plan(const Plan& plan) {
  const auto found = find_installed();
  if (!found) return std::unexpected(found.error());
  if (auto ours = refuse_foreign(plan, *found); !ours) return ours;
  if (plan.inputs.scope.local) {
    if (auto there = require_cgroups(*plan.inputs.scope.local); !there) return there;
  }
  if (plan.inputs.ownership.backend == Backend::ebpf) return check_ebpf(plan);
  return is_iptables(plan.inputs.ownership.backend) ? check_xtables(plan) : check_nft(plan);
}

Status load_rules(const Plan& plan, const std::vector<XtablesPiece>& present) {
  const Backend backend = plan.inputs.ownership.backend;
  if (backend == Backend::ebpf) return install_ebpf(plan);
  if (!is_iptables(backend)) {
    const std::string replacement = render_nft_replacement(plan);
    const std::string remembered = render_remembered(plan);
    if (!remembered.empty() && feed_nft(NftMode::apply, replacement + remembered, table_object(plan))) return {};
    return feed_nft(NftMode::apply, replacement, table_object(plan));
  }
  for (const XtablesRuleset& rules : plan.xtables) {
    std::vector<XtablesPiece> old;
    std::ranges::copy_if(present, std::back_inserter(old), [&](const XtablesPiece& piece) {
      return piece.name == plan.inputs.ownership.name && piece.backend == backend && piece.family == rules.family;
    });
    // Fail-closed rejects without a heartbeat: what needs the list is loaded, then the heart beats, then it is asked.
    XtablesRuleset first{.family = rules.family, .tables = rules.tables};
    XtablesRuleset last{.family = rules.family, .tables = {rules.tables.back()}};
    first.tables.pop_back();
    if (!first.tables.empty()) {
      std::vector<XtablesPiece> concerned;
      std::ranges::copy_if(old, std::back_inserter(concerned), [&](const XtablesPiece& piece) {
        return std::ranges::find(first.tables, piece.table, &XtablesTable::name) != first.tables.end();
      });
      if (auto fed = feed_xtables(backend, rules.family, render_replacement(first, concerned), table_object(plan));
          !fed)
        return fed;
      std::erase_if(old, [&](const XtablesPiece& piece) {
        return std::ranges::find(first.tables, piece.table, &XtablesTable::name) != first.tables.end();
      });
      std::ignore = beat_heart(plan);
    }
    if (auto fed = feed_xtables(backend, rules.family, render_replacement(last, old), table_object(plan)); !fed)
      return fed;
    std::ignore = beat_heart(plan);
  }
  return {};
}

Status install_plan(const Plan& plan) {
  const auto found = find_installed();
  if (!found) return std::unexpected(found.error());
  if (auto ours = refuse_foreign(plan, *found); !ours) return ours;
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  if (auto loopback = require_loopback(*socket); !loopback) return loopback;

  Journal journal;
  for (const SysctlChange& change : plan.sysctls) {
    if (auto done = set_sysctl(change, journal); !done) return done;
  }
  if (auto done = add_routing(plan, *socket, journal); !done) return done;
  const bool is_fresh = std::ranges::none_of(found->xtables, [&](const XtablesPiece& piece) {
    return piece.name == plan.inputs.ownership.name && piece.backend == plan.inputs.ownership.backend;
  });
  // Half of a new installation is of no use; half of one that replaces another is better than none.
  if (is_iptables(plan.inputs.ownership.backend) && is_fresh)
    journal.add([&] { std::ignore = remove_xtables(plan.inputs.ownership.name, plan.inputs.ownership.backend); });
  if (auto done = load_rules(plan, found->xtables); !done) return done;
  journal.keep();
  // The plan is complete and at work; what is left of older ones disturbs nothing, so failing to remove it is no
  // failure of this.
  std::ignore = remove_others(plan.inputs.ownership);
  remove_outdated(plan, *socket);
  std::ignore = reap_orphans();
  return {};
}

Status begin_drain(const Plan& plan) {
  if (plan.inputs.ownership.backend == Backend::ebpf) return drain_ebpf(plan);
  if (!is_iptables(plan.inputs.ownership.backend))
    return feed_nft(NftMode::apply, render_draining_table(plan), table_object(plan));
  for (const XtablesRuleset& rules : draining_xtables(plan)) {
    if (auto fed = feed_xtables(plan.inputs.ownership.backend, rules.family, render_restore(rules), table_object(plan));
        !fed)
      return fed;
  }
  return {};
}

}  // namespace limpid
