// Takes out of the kernel what a plan put there: with the plan in hand, or from what the kernel itself says (the
// table's comment and our protocol number). Whatever does not carry our tag is not touched.
#include "intercept/remove.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <ranges>

#include "intercept/found.h"
#include "intercept/install.h"
#include "intercept/nft.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

/// The first of the errors that a removal met; it goes on past each, because half a removal is worse than a late
/// message.
class FirstError {
 public:
  void note(const Status& outcome) {
    if (!outcome && !error_) error_ = outcome.error();
  }
  [[nodiscard]] Status status() const { return error_ ? Status(std::unexpected(*error_)) : Status(); }

 private:
  std::optional<Error> error_;
};

/// All of them in one transaction, whether or not they are there.
Status delete_tables(const std::vector<NftTableName>& tables) {
  return feed_nft(NftMode::apply, render_deletion(tables), "nft table " + tables.front().to_string());
}

/// Each transaction of iptables is of one backend and family.
Status delete_pieces(const std::vector<XtablesPiece>& pieces) {
  FirstError first_error;
  for (const Backend backend : {Backend::iptables_nft, Backend::iptables_legacy}) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      std::vector<XtablesPiece> together;
      std::ranges::copy_if(pieces, std::back_inserter(together), [&](const XtablesPiece& piece) {
        return piece.backend == backend && piece.family == family;
      });
      if (together.empty()) continue;
      first_error.note(feed_xtables(backend, family, render_removal(together), together.front().to_string()));
    }
  }
  return first_error.status();
}

/// Deletes what is in the kernel exactly so; a look-alike of somebody else's is left alone.
template <class Spec, class List, class Delete>
void delete_present(const std::vector<Spec>& specs, FirstError& first_error, List list, Delete remove) {
  for (const Spec& spec : specs | std::views::reverse) {
    auto present = list(spec);
    if (!present) {
      first_error.note(std::unexpected(present.error()));
    } else if (std::ranges::find(*present, spec) != present->end()) {
      first_error.note(remove(spec));
    }
  }
}

/// Whether a sysctl still has the value that we gave it; otherwise somebody has changed it since, and it is theirs.
bool is_as_set(const SysctlChange& change) {
  return change.value != change.previous && read_sysctl(change.key).value_or("") == change.value;
}

/// Whether another installation wants a sysctl to stay as it is: the last one puts it back.
bool is_wanted_by_others(const SysctlChange& change, const std::vector<Ownership>& others) {
  return std::ranges::any_of(
      others, [&](const Ownership& o) { return o.sysctls.find(letter_of(change)) != std::string::npos; });
}

/// What the comment of a found table says about sysctls.
std::vector<SysctlChange> sysctls_of(const Ownership& owner) {
  std::vector<SysctlChange> changes;
  for (const char letter : owner.sysctls) changes.push_back(sysctl_of(letter));
  return changes;
}

template <class Spec>
bool is_orphan(const std::vector<Ownership>& owners, const Spec& spec) {
  return spec.protocol == kRouteProtocol &&
         std::ranges::none_of(owners, [&](const Ownership& o) { return owns(o, spec); });
}

Status find_orphans(const Found& found, const std::vector<Ownership>& owners, Removal& removal) {
  std::ranges::copy_if(found.nft.companions, std::back_inserter(removal.tables), [&](const NftTableName& companion) {
    return std::ranges::none_of(owners, [&](const Ownership& o) {
      return o.backend == Backend::nftables && o.local && table_name_of(o.name) == companion.name;
    });
  });
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    auto rules = socket->rules(family);
    if (!rules) return std::unexpected(rules.error());
    std::ranges::copy_if(*rules, std::back_inserter(removal.rules),
                         [&](const RuleSpec& r) { return is_orphan(owners, r); });
    auto routes = socket->routes(family);
    if (!routes) return std::unexpected(routes.error());
    std::ranges::copy_if(*routes, std::back_inserter(removal.routes),
                         [&](const RouteSpec& r) { return is_orphan(owners, r); });
  }
  return {};
}

/// What captures comes first: from then on nothing is captured, and nothing needs the rest.
Status execute(const Removal& removal) {
  FirstError first_error;
  if (auto deleted = delete_pieces(removal.xtables); !deleted) return deleted;
  for (const EbpfInstallation& installation : removal.ebpf) {
    if (auto deleted = remove_ebpf(installation); !deleted) return deleted;
  }
  if (!removal.tables.empty()) {
    // A table that stays needs its rules: do not go on without having removed it.
    if (auto deleted = delete_tables(removal.tables); !deleted) return deleted;
  }
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  for (const RuleSpec& rule : removal.rules) first_error.note(socket->delete_rule(rule));
  for (const RouteSpec& route : removal.routes) first_error.note(socket->delete_route(route));
  for (const SysctlChange& change : removal.sysctls) first_error.note(write_sysctl(change.key, change.previous));
  return first_error.status();
}

}  // namespace

std::vector<std::string> Removal::lines() const {
  std::vector<std::string> lines;
  lines.reserve(tables.size() + xtables.size() + ebpf.size() + rules.size() + routes.size() + sysctls.size());
  for (const NftTableName& table : tables) lines.push_back("nft table " + table.to_string());
  for (const XtablesPiece& piece : xtables) lines.push_back(piece.to_string());
  for (const EbpfInstallation& installation : ebpf) lines.push_back(installation.to_string());
  for (const RuleSpec& rule : rules) lines.push_back(describe(rule));
  for (const RouteSpec& route : routes) lines.push_back(describe(route));
  for (const SysctlChange& change : sysctls) lines.push_back(fmt::format("sysctl {}={}", change.key, change.value));
  return lines;
}

Result<Removal> find_removal(const std::string& name) {
  if (auto valid = check_instance_name(name); !valid) return std::unexpected(valid.error());
  auto found = find_installed();
  if (!found) return std::unexpected(found.error());
  if (const std::string foreign = found->foreign_main(name); !foreign.empty()) {
    return failure("remove", foreign, "its comment is not one of Limpid's, so somebody else made it",
                   foreign.starts_with("nft table") ? fmt::format("if it is yours: nft delete {}", foreign.substr(4))
                                                    : "if they are yours: iptables -F and -X for each");
  }
  Removal removal;
  std::vector<Ownership> owners = found->owners();
  std::vector<SysctlChange> sysctls;
  for (const Ownership& owner : owners) {
    if (owner.name != name) continue;
    if (owner.backend == Backend::nftables) removal.tables.push_back({.family = "inet", .name = table_name_of(name)});
    for (SysctlChange& change : sysctls_of(owner)) {
      if (std::ranges::find(sysctls, change) == sysctls.end()) sysctls.push_back(std::move(change));
    }
  }
  // Chains without a comment are ours too, when they are empty: what a flush of all rules leaves.
  std::ranges::copy_if(found->xtables, std::back_inserter(removal.xtables),
                       [&](const XtablesPiece& piece) { return piece.name == name; });
  std::ranges::copy_if(found->ebpf, std::back_inserter(removal.ebpf),
                       [&](const EbpfInstallation& installation) { return installation.ownership.name == name; });
  // Without its table, what belongs to the installation is without an owner.
  std::erase_if(owners, [&](const Ownership& owner) { return owner.name == name; });
  for (const SysctlChange& change : sysctls) {
    if (is_as_set(change) && !is_wanted_by_others(change, owners)) removal.sysctls.push_back(change);
  }
  if (auto orphans = find_orphans(*found, owners, removal); !orphans) return std::unexpected(orphans.error());
  return removal;
}

Status reap_orphans() {
  const auto found = find_installed();
  if (!found) return std::unexpected(found.error());
  Removal removal;
  if (auto orphans = find_orphans(*found, found->owners(), removal); !orphans) return orphans;
  return execute(removal);
}

Status remove_xtables(const std::string& name, Backend backend) {
  auto found = find_xtables();
  if (!found) return std::unexpected(found.error());
  std::erase_if(*found, [&](const XtablesPiece& piece) { return piece.name != name || piece.backend != backend; });
  return delete_pieces(*found);
}

Status remove_others(const Ownership& installed) {
  const auto found = find_installed();
  if (!found) return std::unexpected(found.error());
  Removal removal;
  if (installed.backend != Backend::nftables &&
      std::ranges::find(found->nft.ours, installed.name, &Ownership::name) != found->nft.ours.end())
    removal.tables.push_back({.family = "inet", .name = table_name_of(installed.name)});
  std::ranges::copy_if(found->xtables, std::back_inserter(removal.xtables), [&](const XtablesPiece& piece) {
    return piece.name == installed.name && piece.backend != installed.backend;
  });
  if (installed.backend != Backend::ebpf) {
    std::ranges::copy_if(found->ebpf, std::back_inserter(removal.ebpf), [&](const EbpfInstallation& installation) {
      return installation.ownership.name == installed.name;
    });
  }
  return execute(removal);
}

Status remove_plan(const Plan& plan) {
  // Others choose their numbers by what is there: they must see all of ours or nothing. Who holds the lock for too long does not
  // keep us from cleaning up.
  const auto lock = lock_planning();
  FirstError first_error;
  const std::string& name = plan.inputs.ownership.name;
  const auto found = find_installed();
  std::vector<NftTableName> ours = tables_of(plan);
  std::erase_if(ours, [&](const NftTableName& table) {
    if (!found || std::ranges::find(found->nft.foreign, table) == found->nft.foreign.end()) return false;
    first_error.note(failure("remove", "nft table " + table.to_string(),
                             "somebody has put a table of their own in its place; it is left alone"));
    return true;
  });
  if (!ours.empty()) first_error.note(delete_tables(ours));
  if (is_iptables(plan.inputs.ownership.backend)) {
    if (!found) {
      first_error.note(std::unexpected(found.error()));
    } else if (const std::string foreign = found->foreign_main(name); !foreign.empty()) {
      first_error.note(
          failure("remove", foreign, "somebody has put chains of their own in its place; they are left alone"));
    } else {
      first_error.note(remove_xtables(name, plan.inputs.ownership.backend));
    }
  }
  if (plan.inputs.ownership.backend == Backend::ebpf) {
    if (!found) first_error.note(std::unexpected(found.error()));
    for (const EbpfInstallation& installation : found ? found->ebpf : std::vector<EbpfInstallation>()) {
      if (installation.ownership.name == name) first_error.note(remove_ebpf(installation));
    }
  }
  auto socket = RouteSocket::open();
  if (socket) {
    delete_present(
        plan.rules, first_error, [&](const RuleSpec& r) { return socket->rules(r.family); },
        [&](const RuleSpec& r) { return socket->delete_rule(r); });
    delete_present(
        plan.routes, first_error, [&](const RouteSpec& r) { return socket->routes(r.destination.family()); },
        [&](const RouteSpec& r) { return socket->delete_route(r); });
  } else {
    first_error.note(std::unexpected(socket.error()));
  }
  std::vector<Ownership> others = found ? found->owners() : std::vector<Ownership>();
  std::erase_if(others, [&](const Ownership& o) { return o.name == name; });
  for (const SysctlChange& change : plan.sysctls | std::views::reverse) {
    if (is_wanted_by_others(change, others)) continue;
    if (is_as_set(change)) first_error.note(write_sysctl(change.key, change.previous));
  }
  return first_error.status();
}

Result<std::vector<std::string>> remove_installation(const std::string& name) {
  auto removal = find_removal(name);
  if (!removal) return std::unexpected(removal.error());
  if (auto removed = execute(*removal); !removed) return std::unexpected(removed.error());
  return removal->lines();
}

}  // namespace limpid
