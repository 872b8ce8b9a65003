// Start: survey → numbers → listeners → relay → plan. End: stop capturing → drain → remove the plan. Nothing is
// captured before somebody listens, and nothing stays behind when nobody does.
#include "service/service.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "intercept/ebpf.h"
#include "intercept/ebpf_warnings.h"
#include "intercept/install.h"
#include "net/netlink.h"
#include "relay/clock.h"
#include "relay/name_hints.h"
#include "relay/name_lookups.h"
#include "relay/relay.h"
#include "service/client_rights.h"
#include "service/confirm.h"
#include "service/control_api.h"
#include "service/control_doors.h"
#include "service/control_reports.h"
#include "service/doctor_runs.h"
#include "service/draining.h"
#include "service/groundwork.h"
#include "service/handover.h"
#include "service/instance_state.h"
#include "service/keeper.h"
#include "service/listeners.h"
#include "service/name_process.h"
#include "service/notify_socket.h"
#include "service/operation.h"
#include "service/orders.h"
#include "service/predecessor.h"
#include "service/relay_rights.h"
#include "service/reload.h"
#include "service/resources.h"
#include "service/signals.h"
#include "service/successor.h"
#include "service/supervised.h"
#include "service/upgrading.h"
#include "service/upstreams.h"
#include "service/watchdog.h"

namespace limpid {
namespace {

constexpr std::chrono::seconds kPredecessorEnds{30};  ///< beyond its drain time-out, which was like ours

/// Counters may be asked for in the meantime; a signal that ends the program is an answer too: no.
bool is_confirmed(std::chrono::seconds patience, int terminal, int signal_fd, const Relay& relay, const Logger& log) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(deadline - std::chrono::steady_clock::now());
    const auto answer = await_confirmation(terminal, signal_fd, std::max(left, std::chrono::seconds{0}));
    if (answer != Confirmation::interrupted) return answer == Confirmation::confirmed;
    const int signal = next_signal(signal_fd, std::chrono::milliseconds{0});
    if (signal == SIGUSR2) continue;  // nobody takes over what is not confirmed
    if (signal != SIGUSR1) return false;
    log_counters(log, "counters", relay);
  }
}

InstanceState describe_instance(const ServiceOptions& options, const Plan& plan,
                                const std::vector<SocketAddress>& listeners, const ControlDoors& doors) {
  const auto& ownership = plan.inputs.ownership;
  InstanceFacts facts{.verb = "run",
                      .name = ownership.name,
                      .backend = std::string(to_string(ownership.backend)),
                      .source = std::string(to_string(options.source)),
                      .fail = plan.inputs.fail == FailMode::open ? "open" : "closed",
                      .repair = options.repair == Repair::on ? "on" : "off",
                      .mark = ownership.mark.intercept_mark().to_string(),
                      .table = ownership.table.value,
                      .priority = ownership.priority.value,
                      .config_file = options.config_file,
                      .control_path = doors.socket ? doors.socket->path() : "",
                      .metrics_address = doors.metrics_address,
                      .dashboard_address = doors.dashboard ? doors.dashboard->address : "",
                      .started_us = wall_clock_us()};
  if (plan.inputs.scope.ipv4) facts.families.emplace_back("ipv4");
  if (plan.inputs.scope.ipv6) facts.families.emplace_back("ipv6");
  for (const SocketAddress& listener : listeners) facts.listeners.push_back(listener.to_string());
  if (!plan.inputs.scope.udp.empty()) facts.udp_source = to_string(udp_source(options));
  return InstanceState(std::move(facts), {.tcp = plan.inputs.scope.tcp.to_string(),
                                          .udp = plan.inputs.scope.udp.to_string(),
                                          .description = options.description});
}

/// Who was here before us, and what whoever comes after us needs.
struct Succession {
  std::string program;                 ///< the file that an upgrade starts
  int lock = -1;                       ///< the instance's; borrowed
  Predecessor* predecessor = nullptr;  ///< nullptr: an ordinary start
};

Status serve(const ServiceOptions& options, Plan& plan, RulesKeeper& keeper, Relay& relay,
             CutThroughOffload* cut_through, Upstreams& upstreams, NameLookups* names, Logger& log, int signal_fd,
             int terminal, const std::shared_ptr<CurrentRules>& book, const std::vector<SocketAddress>& listeners,
             ControlDoors doors, const NotifySocket& supervisor, const Succession& succession) {
  const auto orders = ServiceOrders::open();
  if (!orders) return std::unexpected(orders.error());
  InstanceState instance = describe_instance(options, plan, listeners, doors);
  const auto& ownership = plan.inputs.ownership;
  log.info("intercepting",
           {field("name", ownership.name), field("tcp", plan.inputs.scope.tcp.to_string()),
            field("udp", plan.inputs.scope.udp.to_string()), field("listener", ownership.listener.value),
            field("mark", ownership.mark.intercept_mark().to_string()), field("table", ownership.table.value),
            field("priority", ownership.priority.value), field("backend", to_string(ownership.backend)),
            field("fail", plan.inputs.fail == FailMode::open ? "open" : "closed"),
            field("source", to_string(options.source)),
            field("udp_source", plan.inputs.scope.udp.empty() ? "" : to_string(udp_source(options))),
            field("max_flows", relay.max_flows())});

  Status outcome;
  if (options.confirm && !is_confirmed(*options.confirm, terminal, signal_fd, relay, log)) {
    outcome = failure("--confirm", "", "not confirmed; everything is as it was before");
  }
  auto patience = options.drain_timeout;
  const auto channel = std::make_shared<const UniqueFd>(keeper.take_doctor_channel());
  const auto doctor = DoctorRuns::open([channel, sequence = std::uint8_t{0}](DoctorRuns::Depth depth,
                                                                             int stop) mutable {
    return ask_for_doctor(channel->get(), {.depth = static_cast<std::uint8_t>(depth), .sequence = ++sequence}, stop);
  });
  if (!doctor) return std::unexpected(doctor.error());
  std::unique_ptr<ControlApi> api;  // to the very end: a drain can be watched
  std::optional<Watchdog> watchdog;
  const HandoverParts handover{.program = succession.program,
                               .keeper = keeper,
                               .relay = relay,
                               .plan = plan,
                               .log = log,
                               .supervisor = supervisor,
                               .cut_through = cut_through != nullptr ? cut_through->self() : 0,
                               .signal_fd = signal_fd,
                               .instance_lock = succession.lock,
                               .doors = describe_doors(doors)};
  if (outcome) {
    auto started = ControlApi::start({.relay = relay,
                                      .log = log,
                                      .instance = instance,
                                      .orders = **orders,
                                      .rules = options.load ? book.get() : nullptr,
                                      .plan = keeper.condition(),
                                      .doctor = doctor->get()},
                                     std::move(doors));
    if (!started) return std::unexpected(started.error());
    api = std::move(*started);
    Reloader reloader(options, plan, keeper, book, upstreams, names, log);
    watchdog.emplace(relay, supervisor);
    if (succession.predecessor != nullptr) succession.predecessor->await_farewell();
    supervisor.ready(describe_work(plan.inputs.scope));
    if (succession.predecessor != nullptr) succession.predecessor->say_serving();
    const RunEnd end =
        run_until_end(keeper, cut_through, relay, log, signal_fd, reloader, *book,
                      {.orders = **orders, .instance = instance, .supervisor = supervisor, .handover = handover},
                      /*reloads_at_hangup=*/options.load != nullptr);
    if (end.handed_over) {
      if (cut_through != nullptr) cut_through->leave();
      (*orders)->close();
      if (api) api->retire();
      finish_stays(relay, log, signal_fd, patience);
      return {};
    }
    patience = end.patience.value_or(patience);
  }
  instance.change([](InstanceSituation& now) { now.draining = true; });
  (*orders)->close();
  if (auto draining = keeper.begin_drain(); !draining) {
    log.warning("could not stop capturing before the drain", {field("error", draining.error().message())});
  }
  // Not confirmed means that somebody may be locked out: no time for the flows of others then.
  drain_supervised(relay, log, signal_fd, outcome ? patience : std::chrono::milliseconds{0}, supervisor);
  relay.end_offloaded();
  auto removed = keeper.remove();
  return outcome ? removed : outcome;
}

/// The whole life of an instance. `predecessor`: whom it takes over from; nullptr: nobody.
Status run_instance(const ServiceOptions& wanted, SuccessorProgram program, Predecessor* predecessor) {
  Logger log(wanted.log);
  auto options = wanted;
  if (predecessor != nullptr) options.confirm.reset();  // somebody has said yes
  if (auto adapted = adapt_to_target(options, log); !adapted) return adapted;
  if (auto adapted = adapt_to_rules(options, log); !adapted) return adapted;
  if (auto adapted = exclude_upstreams(options, options.interception.scope, log); !adapted) return adapted;
  const NotifySocket supervisor = take_supervisor(log);
  auto signals = take_signals(/*and_upgrade=*/true);
  if (!signals) return std::unexpected(signals.error());
  UniqueFd terminal;
  if (options.confirm) {
    auto opened = open_terminal();
    if (!opened) return std::unexpected(opened.error());
    terminal = std::move(*opened);
  }
  raise_descriptor_limit();

  auto instance_lock = predecessor != nullptr ? predecessor->take_lock(options.interception.name)
                                              : lock_instance(options.interception.name);
  if (!instance_lock) return std::unexpected(instance_lock.error());
  auto rules_lock = predecessor != nullptr ? predecessor->take_rules_lock() : lock_rules(options.interception.name);
  if (!rules_lock) return std::unexpected(rules_lock.error());
  auto planning_lock = lock_planning();
  if (!planning_lock) return std::unexpected(planning_lock.error());
  auto groundwork = lay_groundwork(options);
  if (!groundwork) return std::unexpected(groundwork.error());
  if (auto free = check_leg_marks(options.rules, groundwork->numbers.mark); !free) return free;
  options.interception.backends = groundwork->interception.backends;
  if (predecessor != nullptr) {
    if (auto same = predecessor->check(groundwork->numbers, groundwork->backend.backend); !same) return same;
  }
  log_warnings(log, *groundwork, options.enable_forwarding);
  explain_udp_servers(log, groundwork->interception.scope.udp);

  auto& interception = groundwork->interception;
  const auto bypass = groundwork->numbers.mark.bypass;
  // Behind a PPPoE line or a tunnel, both ends must use segments that fit everywhere, or no flow could be cut through.
  std::uint32_t smallest_mtu = 0;
  if (options.cut_through != CutThroughMode::off) smallest_mtu = smallest_different_mtu().value_or(0);
  const bool by_ebpf = interception.backends.front() == Backend::ebpf;
  const auto workers = predecessor != nullptr
                           ? predecessor->workers(options.workers)
                           : count_workers(options.workers, usable_cpus(), !by_ebpf || ebpf_takes_reuseport());
  if (!workers) return std::unexpected(workers.error());
  if (options.workers == 0 && *workers < usable_cpus())
    log.warning(
        "one worker only: with --backend ebpf, this kernel hands connections to a single listener (Linux 6.6 can do "
        "more)");
  const ListenerRequest request{
      .port = interception.listener,
      .ipv4 = interception.scope.ipv4,
      .ipv6 = interception.scope.ipv6,
      .tcp = !interception.scope.tcp.empty(),
      .udp = !interception.scope.udp.empty(),
      .workers = *workers,
      .spread_by_client = by_ebpf,
      .socket = {.mark = bypass, .keepalive_idle = options.keepalive_idle, .smallest_mtu = smallest_mtu}};
  auto listeners = predecessor != nullptr ? predecessor->take_listeners(request) : open_listeners(request);
  if (!listeners) return std::unexpected(listeners.error());
  interception.listener = listeners->port;
  auto inputs = prepare_inputs(groundwork->survey, interception, Keeper::process, options.enable_forwarding);
  if (!inputs) return std::unexpected(inputs.error());
  if (options.source != SourceMode::none) {
    for (const auto& warning : find_ebpf_warnings(*inputs, /*followed=*/true)) log.warning(warning);
  }
  Plan plan = make_plan(*inputs);
  log.debug("plan", {field("commands", render_commands(plan))});
  if (auto checked = check_plan(plan); !checked) return checked;

  auto doors = open_control_doors(options, interception.name, log, predecessor);
  if (!doors) return std::unexpected(doors.error());
  const std::string program_path = program.path;
  auto started_keeper = RulesKeeper::start({.options = options,
                                            .plan = plan,
                                            .log = log,
                                            .control_path = doors->socket ? doors->socket->path() : "",
                                            .rules_lock = std::move(*rules_lock),
                                            .program = std::move(program),
                                            .variables = supervisor.variables(),
                                            .succeeds = predecessor != nullptr});
  if (!started_keeper) return std::unexpected(started_keeper.error());
  RulesKeeper& keeper = **started_keeper;
  // Gone before the keeper, whatever happens: its end takes away the socket's file, which this process may not, once nobody listens there.
  ControlDoors own_doors = std::move(*doors);
  // Where a reload may bring rules, one of them may send flows by name. It waits for the first of them.
  std::optional<NameProcess> name_process;
  if (options.load) {
    auto started = NameProcess::start(find_unprivileged_user());
    if (!started) return std::unexpected(started.error());
    name_process.emplace(std::move(*started));
  }
  const auto upstreams = Upstreams::open(options,
                                         {.listeners = listeners->addresses,
                                          .bypass_mark = bypass,
                                          .mark_mask = groundwork->numbers.mark.mask,
                                          .may_change = options.load != nullptr,
                                          .resolver_user = find_unprivileged_user()},
                                         log);
  if (!upstreams) return std::unexpected(upstreams.error());
  const CutThroughRequest cut_through_request{
      .mode = options.cut_through,
      .name = interception.name,
      .mark = bypass,
      .filter_priority = std::max(1U, groundwork->numbers.priority.value - 1),
      .netfilter = options.cut_through_netfilter,
      .timeouts = options.timeouts,
      .udp_timeouts = options.udp.timeouts,
      .predecessor = predecessor != nullptr ? predecessor->instance().cut_through : 0,
      .predecessor_stays = options.drain_timeout + kPredecessorEnds};
  // From here on this process holds what relaying takes and nothing else. Threads come later: each has capabilities of its own.
  const bool handles_programs = needs_cut_through(cut_through_request);
  if (auto confined = confine_relay(options, handles_programs, log); !confined) return confined;
  std::unique_ptr<NameLookups> names;
  if (name_process) {
    auto changes = AddressWatch::open();
    if (!changes) return std::unexpected(changes.error());
    names = std::make_unique<NameLookups>(NameLookups::Options{
        .channel = name_process->take_channel(),
        .own = own_addresses,
        .changes = std::move(*changes),
        .on_end = [&log] {
          log.warning("names of flows are not looked up any more: the process that does it has ended",
                      {field("remedy", "restart, if rules say by-name")});
        }});
    names->restrict_to(interception.scope.to_prefixes, interception.scope.excluded);
  }
  std::unique_ptr<NameHints> hints;
  if (options.dns_hint) hints = std::make_unique<NameHints>();
  const auto usual_upstream = (*upstreams)->usual();
  (*upstreams)->number(options.rules);
  const auto book = std::make_shared<CurrentRules>(options.rules);
  warn_of_missing_rights(book->current()->asks_for(), log);
  const auto policy = std::make_shared<const Policy>(PolicyOptions{.fixed_target = options.fixed_target,
                                                                   .source = options.source,
                                                                   .listeners = listeners->addresses,
                                                                   .upstream = usual_upstream});
  UdpOptions udp = options.udp;
  udp.policy = std::make_shared<const Policy>(PolicyOptions{.fixed_target = options.fixed_target,
                                                            .source = udp_source(options),
                                                            .listeners = listeners->addresses,
                                                            .upstream = usual_upstream});
  udp.bypass_mark = bypass;
  udp.answer_mark = answer_mark(inputs->ownership);
  auto cut_through =
      handles_programs ? open_cut_through(cut_through_request, log) : Result<OpenedCutThrough>(OpenedCutThrough{});
  if (!cut_through) return std::unexpected(cut_through.error());
  auto* const offload = cut_through->offload.get();
  if (predecessor != nullptr) {
    if (auto there = predecessor->check_cut_through(offload != nullptr); !there) return there;
  }
  const bool local_ends = interception.scope.local || options.fixed_target || usual_upstream || options.load != nullptr;
  auto relay = Relay::start(
      {.policy = policy,
       .rules = options.load ? book : nullptr,
       .sniff_bytes = options.sniff_bytes,
       .target_leg = {.bypass_mark = bypass, .keepalive_idle = options.keepalive_idle, .smallest_mtu = smallest_mtu},
       .timeouts = options.timeouts,
       .max_flows = options.max_flows,
       .offload = cut_through->offload.get(),
       .hands_over = cut_through->hands_over,
       .offload_age = options.cut_through == CutThroughMode::automatic ? kHandOverAge : std::chrono::milliseconds(0),
       .upstreams = (*upstreams)->groups(),
       .introducers = options.introducers,
       .local_ends = local_ends,
       .waits = predecessor != nullptr,
       .names = names.get(),
       .hints = hints.get(),
       .udp = udp},
      std::move(listeners->per_worker));
  if (!relay) return std::unexpected(relay.error());
  if (predecessor != nullptr) {
    planning_lock->reset();
    if (auto taken = predecessor->take_over(**relay); !taken) return taken;
    // From here on there is no way back: the flows are ours.
    (*relay)->begin();
    own_everything(own_doors, offload, *instance_lock, log);
    keeper.renew();
  } else if (auto installed = keeper.install(); !installed) {
    return installed;
  }
  if (offload != nullptr) offload->follow_interfaces();
  if (planning_lock) planning_lock->reset();
  (*upstreams)->begin();
  Status outcome;
  serve_with_access_log(**relay, options, log, [&] {
    outcome = serve(options, plan, keeper, **relay, offload, **upstreams, names.get(), log, signals->get(),
                    terminal.get(), book, listeners->addresses, std::move(own_doors), supervisor,
                    {.program = program_path, .lock = instance_lock->get(), .predecessor = predecessor});
  });
  return outcome;
}

}  // namespace

Status run_service(const ServiceOptions& wanted) {
  auto program = SuccessorProgram::of_this_process();
  if (!program) return std::unexpected(program.error());
  auto predecessor = Predecessor::find();
  if (!predecessor) return std::unexpected(predecessor.error());
  Predecessor* const before_us = *predecessor ? &**predecessor : nullptr;
  auto served = run_instance(wanted, std::move(*program), before_us);
  if (!served && before_us != nullptr) before_us->refuse(served.error());
  return served;
}

Result<std::string> describe_service(const ServiceOptions& wanted) {
  const Logger log(wanted.log);
  auto options = wanted;
  if (auto adapted = adapt_to_target(options, log); !adapted) return std::unexpected(adapted.error());
  if (auto adapted = adapt_to_rules(options, log); !adapted) return std::unexpected(adapted.error());
  if (auto adapted = exclude_upstreams(options, options.interception.scope, log); !adapted) {
    return std::unexpected(adapted.error());
  }
  auto groundwork = lay_groundwork(options);
  if (!groundwork) return std::unexpected(groundwork.error());
  if (auto free = check_leg_marks(options.rules, groundwork->numbers.mark); !free) return std::unexpected(free.error());
  if (groundwork->interception.listener.value == 0) {
    const auto port = find_free_port();
    if (!port) return std::unexpected(port.error());
    groundwork->interception.listener = *port;
  }
  const auto inputs =
      prepare_inputs(groundwork->survey, groundwork->interception, Keeper::process, options.enable_forwarding);
  if (!inputs) return std::unexpected(inputs.error());
  log_warnings(log, *groundwork, options.enable_forwarding);
  return render_commands(make_plan(*inputs));
}

}  // namespace limpid
