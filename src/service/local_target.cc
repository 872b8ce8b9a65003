// Keeps circles out: program → Limpid → target on this host → Limpid → …. Called once, before the plan is made.
#include "service/local_target.h"

#include <fmt/format.h>

#include <algorithm>

#include "net/netlink.h"
#include "net/port_owner.h"

namespace limpid {
namespace {

bool names(const std::vector<IdRange>& ranges, std::uint32_t id) {
  return std::ranges::any_of(ranges, [id](const IdRange& range) { return range.first <= id && id <= range.last; });
}

/// Whether the flags alone keep a user's programs out.
bool is_kept_out(const LocalScope& scope, std::uint32_t user) {
  // Which groups and cgroups a process is in is not looked up: whoever names some has thought of it.
  if (!scope.never.groups.empty() || !scope.never.cgroups.empty() || !scope.only.groups.empty() ||
      !scope.only.cgroups.empty()) {
    return true;
  }
  return names(scope.never.users, user) || (!scope.only.users.empty() && !names(scope.only.users, user));
}

}  // namespace

Result<bool> is_of_this_host(const IpAddress& address) {
  if (address.is_loopback()) return true;
  const auto own = own_addresses();
  if (!own) return std::unexpected(own.error());
  return std::ranges::find(*own, address) != own->end();
}

Status exclude_target(Scope& scope, Port target, const Logger& log) {
  if (!scope.local) return {};
  constexpr std::string_view kRemedy = "say which programs are meant, for example --exclude-cgroup or --uid";
  const auto users = find_port_users(target);
  if (users.empty() && scope.local->only.empty() && scope.local->never.empty()) {
    return failure("--target", fmt::format("port {}", target.value),
                   "nothing listens there yet, so it is unknown whose connections must not come back to it",
                   fmt::format("start it first, or {}", kRemedy));
  }
  for (const std::uint32_t user : users) {
    if (is_kept_out(*scope.local, user)) continue;
    if (user == 0) {
      // A server that has changed its user often keeps a parent that is root and sends nothing.
      if (users.size() > 1) continue;
      std::string owner = find_port_owner(target);
      if (owner.empty()) owner = find_udp_port_owner(target);
      return failure("--target", owner, "it runs on this host, as root, and what it sends would come back to it",
                     std::string(kRemedy));
    }
    scope.local->never.users.push_back({.first = user, .last = user});
    log.info("the target's own traffic is left alone", {field("uid", user)});
  }
  return {};
}

}  // namespace limpid
