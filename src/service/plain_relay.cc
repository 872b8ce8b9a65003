// Start: names → listeners → resolver process → chroot → relay. End: drain. Everything that needs the file system or privileges
// happens before the first connection.
#include "service/plain_relay.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <memory>
#include <utility>

#include "base/confinement.h"
#include "net/netlink.h"
#include "net/sysctl.h"
#include "relay/clock.h"
#include "relay/relay.h"
#include "service/control_api.h"
#include "service/control_doors.h"
#include "service/control_reports.h"
#include "service/draining.h"
#include "service/instance_state.h"
#include "service/listeners.h"
#include "service/orders.h"
#include "service/resolver_process.h"
#include "service/resources.h"
#include "service/signals.h"
#include "service/upstreams.h"

namespace limpid {
namespace {

constexpr std::string_view kFastOpenKey = "net.ipv4.tcp_fastopen";
constexpr unsigned kFastOpenClient = 1;
constexpr unsigned kFastOpenServer = 2;

/// All addresses of the wanted families; without IPv6 where the kernel has none, unless nothing else is wanted.
std::vector<SocketAddress> listen_addresses(const PlainRelayOptions& options) {
  auto addresses = options.listen_addresses;
  if (addresses.empty()) {
    const bool has_ipv6 = UniqueFd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)).valid();
    if (options.ipv4) addresses.push_back({.address = IpAddress::any(Family::ipv4), .port = {}});
    if (options.ipv6 && (has_ipv6 || !options.ipv4)) {
      addresses.push_back({.address = IpAddress::any(Family::ipv6), .port = {}});
    }
  }
  for (auto& address : addresses) address.port = options.port;
  return addresses;
}

template <class Items>
std::string joined(const Items& items) {
  std::string text;
  for (const auto& item : items) {
    if (!text.empty()) text += ',';
    text += item.to_string();
  }
  return text;
}

std::string joined_targets(const TargetList& targets) {
  std::vector<SocketAddress> addresses;
  for (const Target& target : targets.all()) addresses.push_back(target.address);
  return joined(addresses);
}

void warn_of_fast_open(const Logger& log) {
  const auto text = read_sysctl(kFastOpenKey);
  if (!text) return;
  unsigned bits = 0;
  std::from_chars(text->data(), text->data() + text->size(), bits);
  if ((bits & kFastOpenServer) == 0) {
    log.warning("--fastopen has no effect on clients",
                {field("because", fmt::format("{} is {}", kFastOpenKey, bits)),
                 field("remedy", fmt::format("sysctl -w {}={}", kFastOpenKey, bits | kFastOpenServer))});
  }
  if ((bits & kFastOpenClient) == 0) {
    log.warning("--fastopen has no effect on targets",
                {field("because", fmt::format("{} is {}", kFastOpenKey, bits)),
                 field("remedy", fmt::format("sysctl -w {}={}", kFastOpenKey, bits | kFastOpenClient))});
  }
}

/// The names and what they mean now.
class Targets {
 public:
  Targets(const PlainRelayOptions& options, OwnAddresses own, const Logger& log)
      : options_(options), own_(std::move(own)), log_(log) {}

  /// For the start: whatever is wrong is the user's to mend.
  [[nodiscard]] Status resolve() {
    for (const auto& name : options_.targets) {
      auto addresses = resolve_name(name);
      if (!addresses) return std::unexpected(addresses.error());
      resolved_.push_back(std::move(*addresses));
    }
    const auto selection = select_targets(resolved_, own_);
    if (!selection.ourselves.empty()) {
      return usage_error("target", selection.ourselves.front().to_string(), "this relay listens there itself",
                         "give another host or port");
    }
    list_ = std::make_shared<TargetList>(selection.groups, options_.order);
    return warn_of_local();
  }

  [[nodiscard]] const std::shared_ptr<TargetList>& list() const { return list_; }
  [[nodiscard]] const std::vector<std::vector<SocketAddress>>& resolved() const { return resolved_; }

  /// While serving: whatever is wrong leaves what was good before.
  void take(const ResolverNews& news) {
    const std::string name = options_.targets.at(news.name).to_string();
    if (news.addresses.empty()) {
      log_.warning("a target cannot be resolved any more: its addresses stay as they were",
                   {field("target", name), field("error", news.problem)});
      return;
    }
    resolved_.at(news.name) = news.addresses;
    // The host's own addresses may have changed as well since the start.
    if (auto addresses = own_addresses()) own_.host = std::move(*addresses);
    const auto selection = select_targets(resolved_, own_);
    for (const auto& address : selection.ourselves) {
      log_.warning("a target is left out: this relay listens there itself",
                   {field("target", name), field("address", address.to_string())});
    }
    if (selection.groups.empty()) return;
    auto before = list_->all();
    list_->replace(selection.groups);
    auto after = list_->all();
    std::ranges::sort(before);
    std::ranges::sort(after);
    // Name servers that rotate their answers are no news.
    if (before != after) {
      log_.info("targets changed", {field("because", name), field("targets", joined_targets(*list_))});
    }
  }

 private:
  [[nodiscard]] Status warn_of_local() const {
    const auto all = list_->all();
    const auto local = std::ranges::find_if(all, &Target::on_this_host);
    if (options_.source == SourceMode::none || local == all.end()) return {};
    if (options_.source == SourceMode::address_and_port) {
      return usage_error("--source", "address+port", "a target is on this host, which would answer the client past us",
                         "give --source none");
    }
    log_.warning("a target is on this host: it sees the host's own address, not the client's",
                 {field("target", local->address.to_string())});
    return {};
  }

  const PlainRelayOptions& options_;
  OwnAddresses own_;
  const Logger& log_;
  std::vector<std::vector<SocketAddress>> resolved_;  ///< for each name
  std::shared_ptr<TargetList> list_;
};

Result<std::optional<ResolverProcess>> start_resolver(const PlainRelayOptions& options, const Targets& targets,
                                                      const UnprivilegedUser& nobody) {
  const bool any_name = !std::ranges::all_of(options.targets, &TargetName::is_address);
  if (!any_name || options.resolve_interval.count() == 0) return std::nullopt;
  auto resolver = ResolverProcess::start({.names = options.targets,
                                          .known = targets.resolved(),
                                          .interval = options.resolve_interval,
                                          .user = options.root_directory ? std::optional(nobody) : std::nullopt});
  if (!resolver) return std::unexpected(resolver.error());
  return std::optional(std::move(*resolver));
}

Status confine(const PlainRelayOptions& options, const UnprivilegedUser& nobody) {
  if (!options.root_directory) return {};
  std::vector<unsigned> kept;
  // For IP_TRANSPARENT (do_ip_setsockopt) and, since Linux 5.17, SO_MARK.
  if (options.source != SourceMode::none || options.mark != 0) kept.push_back(CAP_NET_RAW);
  if (keeps_port(options.source)) kept.push_back(CAP_NET_BIND_SERVICE);
  if (auto entered = enter_root_directory(*options.root_directory); !entered) {
    Error error = std::move(entered.error());
    error.operation = "--chroot";
    return std::unexpected(std::move(error));
  }
  return give_up_privileges(nobody, kept);
}

/// How long a drain may take, if an operator wants one.
std::optional<std::chrono::milliseconds> obey_orders(ServiceOrders& orders, const Relay& relay, InstanceState& instance,
                                                     std::chrono::milliseconds usual) {
  while (const auto order = orders.take()) {
    if (order->kind == ServiceOrder::Kind::reload) {
      order->answer(report_errors({"limpid relay has no configuration to reload"}), false);
      continue;
    }
    if (order->kind == ServiceOrder::Kind::upgrade) {
      order->answer(report_errors({"limpid relay cannot be upgraded while it runs: restart it"}), false);
      continue;
    }
    instance.change([](InstanceSituation& now) { now.draining = true; });
    order->answer(fmt::format(R"({{"ok":true,"flows":{}}})", relay.open_flows()), true);
    return order->timeout.value_or(usual);
  }
  return std::nullopt;
}

/// Until a signal or an operator ends it, or until the one connection of `once` is over.
void serve(const PlainRelayOptions& options, Relay& relay, Targets& targets, std::optional<ResolverProcess>& resolver,
           const Logger& log, int signal_fd, ServiceOrders& orders, InstanceState& instance) {
  for (;;) {
    std::array<pollfd, 4> wanted{pollfd{signal_fd, POLLIN, 0}, pollfd{relay.finished_descriptor(), POLLIN, 0},
                                 pollfd{resolver ? resolver->descriptor() : -1, POLLIN, 0},
                                 pollfd{orders.descriptor(), POLLIN, 0}};
    poll(wanted.data(), wanted.size(), -1);
    if (wanted[3].revents != 0) {
      const auto patience = obey_orders(orders, relay, instance, options.drain_timeout);
      if (patience) return drain(relay, log, signal_fd, *patience);
    }
    if (wanted[1].revents != 0 && relay.finished()) return;
    if (wanted[2].revents != 0) {
      const auto news = resolver->next();
      if (!news) {
        log.warning(news.error().message());
      } else if (*news && (*news)->name < options.targets.size()) {
        targets.take(**news);
      }
    }
    const int signal = wanted[0].revents != 0 ? next_signal(signal_fd, std::chrono::milliseconds{0}) : 0;
    if (signal == SIGUSR1) {
      log_counters(log, "counters", relay);
    } else if (signal != 0) {
      instance.change([](InstanceSituation& now) { now.draining = true; });
      orders.close();
      return drain(relay, log, signal_fd, options.drain_timeout);
    }
  }
}

InstanceState describe_instance(const PlainRelayOptions& options, const std::vector<SocketAddress>& listeners,
                                const ControlDoors& doors) {
  InstanceFacts facts{.verb = "relay",
                      .source = std::string(to_string(options.source)),
                      .control_path = doors.socket ? doors.socket->path() : "",
                      .metrics_address = doors.metrics_address,
                      .dashboard_address = doors.dashboard ? doors.dashboard->address : "",
                      .started_us = wall_clock_us()};
  for (const SocketAddress& listener : listeners) {
    const char* family = listener.family() == Family::ipv4 ? "ipv4" : "ipv6";
    if (std::ranges::find(facts.families, family) == facts.families.end()) facts.families.emplace_back(family);
    facts.listeners.push_back(listener.to_string());
  }
  return InstanceState(std::move(facts), {});
}

Status outcome_of_one(const Relay& relay) {
  const auto end = relay.last_end();
  if (!end) return failure("relay --once", "", "ended before anybody came");
  if (*end == FlowEnd::closed) return {};
  return failure("relay --once", "", fmt::format("the connection ended with {}", to_string(*end)));
}

}  // namespace

Status run_plain_relay(const PlainRelayOptions& options) {
  if (options.root_directory) close_inherited_descriptors();
  Logger log(options.log);
  if (options.root_directory && options.control.starts_with('/'))
    return usage_error("--control", options.control, "with --chroot it could not be removed at the end",
                       "leave one of them out; --metrics works with both");
  auto host = own_addresses();
  if (!host) return std::unexpected(host.error());
  const auto addresses = listen_addresses(options);
  Targets targets(options, {.listeners = addresses, .host = std::move(*host)}, log);
  // Before signals are taken: a look-up that hangs can be interrupted.
  if (auto resolved = targets.resolve(); !resolved) return resolved;
  if (options.fast_open) warn_of_fast_open(log);
  auto signals = take_signals();
  if (!signals) return std::unexpected(signals.error());
  raise_descriptor_limit();

  const unsigned workers = options.once ? 1 : options.workers != 0 ? options.workers : usable_cpus();
  auto listeners = open_listeners(
      {.port = options.port,
       .workers = workers,
       .socket = {.mark = options.mark, .keepalive_idle = options.keepalive_idle, .fast_open = options.fast_open},
       .addresses = addresses,
       .transparent = options.transparent,
       .busy_remedy = "give another LISTEN-PORT",
       .absent_remedy = "not this host's address: `ip addr` lists them; with --tproxy it may be foreign"});
  if (!listeners) return std::unexpected(listeners.error());
  const auto nobody = find_unprivileged_user();
  auto resolver = start_resolver(options, targets, nobody);
  if (!resolver) return std::unexpected(resolver.error());
  auto doors = open_control_doors(options, /*instance=*/{}, log);
  if (!doors) return std::unexpected(doors.error());
  const auto orders = ServiceOrders::open();
  if (!orders) return std::unexpected(orders.error());
  const auto upstreams =
      Upstreams::open(options,
                      {.listeners = listeners->addresses,
                       .bypass_mark = options.mark,
                       .resolver_user = options.root_directory ? std::optional(nobody) : std::nullopt},
                      log);
  if (!upstreams) return std::unexpected(upstreams.error());
  if (auto confined = confine(options, nobody); !confined) return confined;

  const auto policy =
      std::make_shared<const Policy>(PolicyOptions{.fixed_target = std::nullopt,
                                                   .targets = targets.list(),
                                                   .arrival = options.transparent ? Arrival::either : Arrival::direct,
                                                   .source = options.source,
                                                   .listeners = listeners->addresses,
                                                   .upstream = (*upstreams)->usual()});
  auto relay = Relay::start({.policy = policy,
                             .rules = nullptr,
                             .target_leg = {.bypass_mark = options.mark,
                                            .keepalive_idle = options.keepalive_idle,
                                            .fast_open = options.fast_open},
                             .timeouts = options.timeouts,
                             .max_flows = options.max_flows,
                             .once = options.once,
                             .upstreams = (*upstreams)->groups(),
                             .introducers = options.introducers,
                             .udp = {}},
                            std::move(listeners->per_worker));
  if (!relay) return std::unexpected(relay.error());
  log.info("relaying",
           {field("listen", joined(listeners->addresses)), field("targets", joined_targets(*targets.list())),
            field("source", to_string(options.source)), field("max_flows", (*relay)->max_flows())});
  InstanceState instance = describe_instance(options, listeners->addresses, *doors);
  const auto api =
      ControlApi::start({.relay = **relay, .log = log, .instance = instance, .orders = **orders}, std::move(*doors));
  if (!api) return std::unexpected(api.error());
  (*upstreams)->begin();
  serve_with_access_log(**relay, options, log, [&] {
    serve(options, **relay, targets, *resolver, log, signals->get(), **orders, instance);
    (*orders)->close();
  });
  return options.once ? outcome_of_one(**relay) : Status();
}

}  // namespace limpid
