// Before the first flow: what could make a circle of an upstream is found here, not by its consequences.
#include "service/upstreams.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "net/netlink.h"
#include "service/local_target.h"
#include "service/target_resolution.h"

namespace limpid {

Result<std::unique_ptr<Upstreams>> Upstreams::open(const RelaySettings& settings, UpstreamSurroundings surroundings,
                                                   const Logger& log) {
  std::unique_ptr<Upstreams> upstreams(new Upstreams(std::move(surroundings), log));
  if (settings.upstreams.empty() && !upstreams->surroundings_.may_change) return upstreams;
  upstreams->groups_ = std::make_shared<UpstreamGroups>();
  upstreams->usual_ = std::make_shared<std::atomic<std::uint16_t>>(std::uint16_t{0});
  if (auto taken = upstreams->take_over(settings); !taken) return std::unexpected(taken.error());
  const bool any_name = std::ranges::any_of(
      settings.upstreams, [](const auto& group) { return std::ranges::any_of(group.members, is_named); });
  // A process for nothing in most cases, but where there are upstreams at all, a reload may bring names.
  const bool may_come = upstreams->surroundings_.may_change && !settings.upstreams.empty();
  if (settings.upstream_resolve.count() == 0 || !(any_name || may_come)) return upstreams;
  auto names = UpstreamNames::start(settings.upstream_resolve, upstreams->surroundings_.resolver_user, log);
  if (!names) return std::unexpected(names.error());
  upstreams->names_ = std::move(*names);
  return upstreams;
}

Result<std::vector<UpstreamGroupOptions>> Upstreams::prepare(const RelaySettings& settings) const {
  auto host = own_addresses();
  if (!host) return std::unexpected(host.error());
  const OwnAddresses own{.listeners = surroundings_.listeners, .host = std::move(*host)};
  auto groups = settings.upstreams;
  for (auto& options : groups) {
    for (auto& member : options.members) {
      if (const auto shared = member.mark & surroundings_.mark_mask; shared != 0) {
        return usage_error(
            "upstreams", member.name, fmt::format("mark {:#x} has bits of Limpid's own ({:#x})", member.mark, shared),
            fmt::format("choose one without the bits {:#x}, or give Limpid others: --mark", surroundings_.mark_mask));
      }
      // Behind a hop, addresses are what the hop understands by them.
      if (!member.server || !options.via.empty()) continue;
      if (reaches_ourselves(*member.server, own)) {
        return usage_error("--upstream", member.name, "that is this very relay: it would go in a circle",
                           "give another host or port");
      }
      member.on_this_host =
          member.server->address.is_loopback() || std::ranges::find(own.host, member.server->address) != own.host.end();
    }
  }
  if (auto checked = check_groups(groups); !checked) return std::unexpected(checked.error());
  return groups;
}

Status Upstreams::check(const RelaySettings& settings) const {
  const auto prepared = prepare(settings);
  if (!prepared) return std::unexpected(prepared.error());
  return groups_->room_for(prepared->size());
}

Status Upstreams::take_over(const RelaySettings& settings) {
  auto prepared = prepare(settings);
  if (!prepared) return std::unexpected(prepared.error());
  const auto before = groups_->at_work();
  if (auto put = groups_->put_to_work(std::move(*prepared)); !put) return put;
  usual_->store(settings.upstream.empty() ? std::uint16_t{0} : groups_->find(settings.upstream),
                std::memory_order_release);
  if (begun_ && groups_->at_work() != before) begin();
  return {};
}

void Upstreams::number(std::vector<Rule>& rules) const {
  for (Rule& rule : rules) {
    if (rule.action == FlowAction::via) rule.upstream = groups_ ? groups_->find(rule.group) : std::uint16_t{0};
  }
}

void Upstreams::begin() {
  begun_ = true;
  if (!groups_) return;
  const auto named = [&](std::uint16_t number) {
    return std::ranges::any_of(groups_->at(number).options().members, is_named);
  };
  if (names_) {
    names_->follow(groups_, surroundings_.listeners);
  } else if (surroundings_.may_change && std::ranges::any_of(groups_->at_work(), named)) {
    log_.warning("names of upstreams are looked up once", {field("remedy", "restart, to have them followed")});
  }
  start_checks();
}

void Upstreams::start_checks() {
  checks_.reset();  // its thread reads which groups are at work
  checks_ = std::make_unique<UpstreamChecks>(
      groups_, surroundings_.bypass_mark,
      [this](const UpstreamGroup& group, unsigned member, bool up, std::string_view cause) {
        const std::vector<Field> who{field("upstream", group.member(member).name),
                                     field("group", group.options().name)};
        if (up) return log_.info("an upstream is up again", who);
        std::vector<Field> fields = who;
        fields.push_back(field("because", cause));
        log_.warning("an upstream is down", fields);
      });
}

Status exclude_upstreams(const RelaySettings& settings, Scope& scope, const Logger& log) {
  if (!scope.local) return {};
  for (const auto& group : settings.upstreams) {
    for (const auto& member : group.members) {
      if (!member.server || !group.via.empty()) continue;
      const auto local = is_of_this_host(member.server->address);
      if (!local) return std::unexpected(local.error());
      if (!*local) continue;
      if (auto excluded = exclude_target(scope, member.server->port, log); !excluded) {
        Error error = std::move(excluded.error());
        if (error.operation == "--target") error.operation = "--upstream";
        return std::unexpected(std::move(error));
      }
    }
  }
  return {};
}

}  // namespace limpid
