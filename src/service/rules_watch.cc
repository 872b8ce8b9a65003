// The loop is PlanGuard's; here is only what comes before and after it.
#include "service/rules_watch.h"

#include <chrono>
#include <csignal>

#include "intercept/heartbeat.h"
#include "intercept/install.h"
#include "service/installed_plan.h"
#include "service/listener_watch.h"
#include "service/signals.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kListenerInterval{500};

}  // namespace

Status watch_rules(const Plan& plan, const RulesWatchOptions& options, UniqueFd planning_lock) {
  const Logger log(options.log);
  auto signals = take_signals();
  if (!signals) return std::unexpected(signals.error());
  if (auto installed = install_plan(plan); !installed) return installed;
  InstalledPlan installed(plan, log);
  planning_lock.reset();

  auto guard = PlanGuard::start(plan, options.repair, log);
  // Nothing else is its job: without a watch it must not look as if there were one.
  if (!guard) return std::unexpected(guard.error());
  const auto& ownership = plan.inputs.ownership;
  log.info("watching the rules",
           {field("name", ownership.name), field("tcp", plan.inputs.scope.tcp.to_string()),
            field("udp", plan.inputs.scope.udp.to_string()), field("listener", ownership.listener.value),
            field("backend", to_string(ownership.backend)),
            field("fail", plan.inputs.fail == FailMode::open ? "open" : "closed")});
  const auto log_counters = [&](std::string_view message) {
    log.info(message, {field("rules_changed", guard->condition()->drifts),
                       field("rules_repaired", guard->condition()->repairs)});
  };
  ListenerWatch listener(plan, log);
  Heartbeat heartbeat = Heartbeat::start(plan, {.ipv4 = false, .ipv6 = false});
  for (;;) {
    listener.look();
    heartbeat.go_on({.ipv4 = listener.complete(Family::ipv4), .ipv6 = listener.complete(Family::ipv6)});
    const int signal = keep_until_signal(signals->get(), &*guard, kListenerInterval);
    if (signal == SIGUSR1) log_counters("counters");
    if (signal != 0 && signal != SIGUSR1) break;
  }
  log_counters("end");
  if (!options.keep) return installed.remove();
  installed.leave();
  return {};
}

}  // namespace limpid
