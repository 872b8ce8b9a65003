// Words what intercept/listener_check.h finds: who listens, what is wrong with it, what would be done to the traffic, what mends it.
#include "cli/listener_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "intercept/listener_check.h"
#include "net/port_owner.h"

namespace limpid {
namespace {

const ProxyProfile& profile_or_any(const ProxyProfile* profile) {
  return profile != nullptr ? *profile : *find_proxy("custom");
}

std::string_view fate(const Plan& plan) {
  const Ownership& owner = plan.inputs.ownership;
  if (is_iptables(owner.backend) && !owner.heartbeat)
    return "dropped";  // by TPROXY itself: nobody tells it that nobody listens
  return plan.inputs.fail == FailMode::open ? "forwarded as usual" : "rejected";
}

std::string_view flow_word(Transport transport) {
  return transport == Transport::tcp ? "connections" : "datagrams";
}

std::string owner_of(Transport transport, Port port) {
  std::string owner = transport == Transport::tcp ? find_port_owner(port) : find_udp_port_owner(port);
  if (owner.empty()) owner = "somebody";
  return owner;
}

std::unexpected<Error> cannot_take(const Plan& plan, const ListenerState& state, std::string_view remedy) {
  const Port port = plan.inputs.ownership.listener;
  const std::string who = fmt::format("{} has {} {}", owner_of(state.transport, port), to_string(state.transport),
                                      state.bound ? state.bound->to_string() : "");
  if (state.readiness == Readiness::elsewhere && !state.device.empty()) {
    return failure(
        "hand over to port", fmt::to_string(port.value),
        fmt::format("{}, bound to interface {}, so that {} {} of other interfaces would not reach it but be {}", who,
                    state.device, to_string(state.family), flow_word(state.transport), fate(plan)),
        fmt::format("{}; --unchecked installs the rules all the same", remedy));
  }
  const std::string what =
      state.readiness == Readiness::opaque
          ? fmt::format("{} without {}, so that {} {} would not reach it but be {}", who,
                        state.family == Family::ipv4 ? "IP_TRANSPARENT" : "IPV6_TRANSPARENT", to_string(state.family),
                        flow_word(state.transport), fate(plan))
          : fmt::format("{}, but not {} or the wildcard address, so that {} {} would not reach it but be {}", who,
                        IpAddress::loopback(state.family).to_string(), to_string(state.family),
                        flow_word(state.transport), fate(plan));
  return failure("hand over to port", fmt::to_string(port.value), what,
                 fmt::format("{}; --unchecked installs the rules all the same", remedy));
}

bool names(const std::vector<IdRange>& ranges, std::uint32_t id) {
  return std::ranges::any_of(ranges, [id](const IdRange& range) { return range.first <= id && id <= range.last; });
}

}  // namespace

Result<ListenerReport> check_listener(const Plan& plan, const ProxyProfile* profile, const ProxyRequest& request) {
  ListenerReport report;
  const Port port = plan.inputs.ownership.listener;
  const auto states = find_listeners(plan.inputs.scope, port);
  if (!states) {
    report.warnings.push_back(fmt::format("whether a proxy listens is unknown: {}", states.error().message()));
    return report;
  }
  const auto remedy = [&](Family family) {
    std::string text = listener_remedy(profile_or_any(profile), request, family);
    if (profile == nullptr) text += "; `--for NAME` knows the lines of Squid, HAProxy and others";
    return text;
  };
  for (const ListenerState& state : *states) {
    if (state.readiness == Readiness::opaque || state.readiness == Readiness::elsewhere) {
      return cannot_take(plan, state, remedy(state.family));
    }
  }
  const auto is_absent = [](const ListenerState& state) { return state.readiness == Readiness::absent; };
  report.ready = std::ranges::none_of(*states, is_absent);
  if (std::ranges::all_of(*states, is_absent)) {
    report.warnings.push_back(fmt::format(
        "nothing listens on port {} yet: until a proxy does, on {} and with IP_TRANSPARENT, {} are {}", port.value,
        plan.inputs.scope.ipv4 && plan.inputs.scope.ipv6 ? "127.0.0.1 and [::1]"
        : plan.inputs.scope.ipv4                         ? "127.0.0.1"
                                                         : "[::1]",
        plan.inputs.scope.tcp.empty() ? "datagrams" : "connections", fate(plan)));
    return report;
  }
  for (const ListenerState& state : *states) {
    if (!is_absent(state)) continue;
    report.warnings.push_back(
        fmt::format("nothing listens for {} {} on port {}: they are {} ({}; or leave them out with {})",
                    to_string(state.family), flow_word(state.transport), port.value, fate(plan), remedy(state.family),
                    state.family == Family::ipv4 ? "--ipv6-only" : "--ipv4-only"));
  }
  return report;
}

Status check_listener_user(const Plan& plan) {
  const auto& local = plan.inputs.scope.local;
  // Which groups and cgroups a process is in is not looked up: whoever names some has thought of it.
  if (!local || !local->never.groups.empty() || !local->never.cgroups.empty() || !local->only.groups.empty() ||
      !local->only.cgroups.empty()) {
    return {};
  }
  const Port port = plan.inputs.ownership.listener;
  const auto users = find_port_users(port);
  const auto left_alone = [&](std::uint32_t user) {
    return names(local->never.users, user) || (!local->only.users.empty() && !names(local->only.users, user));
  };
  // A server that has changed its user often keeps a parent that is root and calls nobody.
  if (users.empty() || std::ranges::any_of(users, left_alone)) return {};
  std::string owner = find_port_owner(port);
  if (owner.empty()) owner = find_udp_port_owner(port);
  return failure(
      "hand local traffic to", owner,
      fmt::format("it runs as user {}, whose own connections would come back to it", users.front()),
      users.front() == 0
          ? "--exclude-cgroup of its service, for example system.slice/haproxy.service; or run it as a user of "
            "its own"
          : fmt::format("--exclude-uid {}", users.front()));
}

}  // namespace limpid
