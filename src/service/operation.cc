// One loop: one wait for everything, one thing at a time.
#include "service/operation.h"

#include <fmt/format.h>
#include <poll.h>

#include <array>
#include <csignal>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "net/change_watch.h"
#include "relay/clock.h"
#include "service/control_reports.h"
#include "service/draining.h"
#include "service/signals.h"
#include "service/supervised.h"
#include "service/upgrading.h"

namespace limpid {
namespace {

/// Beside the relay's counters: the plan's, and how many flows each rule has decided.
void log_all_counters(const Logger& log, const Relay& relay, const PlanCondition* plan, const CurrentRules& book) {
  std::vector<Field> more{field("rules_changed", plan != nullptr ? plan->drifts.load() : 0),
                          field("rules_repaired", plan != nullptr ? plan->repairs.load() : 0)};
  const auto rules = book.current();
  std::vector<std::string> names;
  names.reserve(rules->set().rules().size());  // fields refer to them
  for (std::size_t number = 0; number < rules->set().rules().size(); ++number) {
    names.push_back(fmt::format("rule_{}", number + 1));
    more.push_back(field(names.back(), rules->hits(number)));
  }
  log_counters(log, "counters", relay, more);
}

/// Programs of cut-through follow interfaces that come and go. Without them, hears nothing.
class LinkFollower {
 public:
  explicit LinkFollower(CutThroughOffload* cut_through) : cut_through_(cut_through) {
    if (cut_through == nullptr) return;
    if (auto watch = ChangeWatch::open({}, TableId{}, /*and_links=*/true)) watch_.emplace(std::move(*watch));
  }
  [[nodiscard]] std::array<int, 2> descriptors() const noexcept {
    return watch_ ? watch_->descriptors() : std::array{-1, -1};
  }
  void follow() {
    std::ignore = watch_->take();
    cut_through_->follow_interfaces();
  }

 private:
  CutThroughOffload* cut_through_;
  std::optional<ChangeWatch> watch_;
};

/// Signals wait so long at most for workers that have much to look at.
constexpr std::chrono::seconds kAuditPatience{20};

/// What a reload may have changed, and how it went.
void note_reload(InstanceState& instance, const Reloader& reloader, const std::vector<Error>& errors,
                 std::optional<std::size_t> ended = std::nullopt) {
  ReloadOutcome outcome{
      .at_us = wall_clock_us(), .ok = errors.empty(), .rules = reloader.rules(), .errors = {}, .ended = ended};
  for (const Error& error : errors) outcome.errors.push_back(error.message());
  instance.change([&](InstanceSituation& now) {
    now.tcp = reloader.scope().tcp.to_string();
    now.udp = reloader.scope().udp.to_string();
    now.description = reloader.description();
    now.last_reload = std::move(outcome);
  });
}

/// Waits for a signal, for operators and for what follows the kernel. The signal, or kSomebodyAsks.
int wait_for_work(int signal_fd, const Operators& operators, RulesKeeper& keeper, LinkFollower& links) {
  for (;;) {
    const auto news = links.descriptors();
    const bool kept = !keeper.has_ended();
    std::array<pollfd, 5> wanted{pollfd{signal_fd, POLLIN, 0}, pollfd{operators.orders.descriptor(), POLLIN, 0},
                                 pollfd{kept ? keeper.descriptor() : -1, 0, 0}, pollfd{news[0], POLLIN, 0},
                                 pollfd{news[1], POLLIN, 0}};
    poll(wanted.data(), wanted.size(), -1);
    if (wanted[2].revents != 0) keeper.note_end();
    if (wanted[3].revents != 0 || wanted[4].revents != 0) links.follow();
    if (wanted[0].revents != 0) {
      if (const int signal = next_signal(signal_fd, std::chrono::milliseconds{0}); signal != 0) return signal;
    }
    if (wanted[1].revents != 0) return kSomebodyAsks;
  }
}

}  // namespace

RunEnd run_until_end(RulesKeeper& keeper, CutThroughOffload* cut_through, Relay& relay, const Logger& log,
                     int signal_fd, Reloader& reloader, const CurrentRules& book, const Operators& operators,
                     bool reloads_at_hangup) {
  LinkFollower links(cut_through);
  int interrupted = 0;  // an upgrade, by this signal
  for (;;) {
    const int signal =
        interrupted != 0 ? std::exchange(interrupted, 0) : wait_for_work(signal_fd, operators, keeper, links);
    if (signal == kSomebodyAsks) {
      // One at a time, so that a signal is heard between two.
      if (const auto order = operators.orders.take()) {
        if (order->kind == ServiceOrder::Kind::drain) {
          operators.instance.change([](InstanceSituation& now) { now.draining = true; });
          order->answer(fmt::format(R"({{"ok":true,"flows":{}}})", relay.open_flows()), true);
          return {.patience = order->timeout};
        }
        if (order->kind == ServiceOrder::Kind::upgrade) {
          const auto outcome = upgrade_supervised(operators.handover, order->timeout, reloader.scope());
          order->answer(report_upgrade(outcome), !outcome.failure);
          if (!outcome.failure) return {.handed_over = true};
          interrupted = outcome.signal;
          continue;
        }
        const auto errors = reload_supervised(reloader, operators.supervisor);
        std::optional<std::size_t> ended;
        if (order->abort && errors.empty()) {
          const AuditOutcome audit = relay.end_forbidden(kAuditPatience);
          ended = audit.ended;
          log.info("flows that the new rules forbid were ended", {field("flows", *ended)});
          if (!audit.complete) log.warning("some flows have not been held against the new rules yet; that goes on");
        }
        note_reload(operators.instance, reloader, errors, ended);
        const auto outcome = operators.instance.situation().last_reload;
        order->answer(report_reload(*outcome), outcome->ok);
      }
    } else if (signal == SIGUSR1) {
      log_all_counters(log, relay, keeper.condition().get(), book);
    } else if (signal == SIGUSR2) {
      const auto outcome = upgrade_supervised(operators.handover, std::nullopt, reloader.scope());
      if (!outcome.failure) return {.handed_over = true};
      interrupted = outcome.signal;
    } else if (signal == SIGHUP && reloads_at_hangup) {
      note_reload(operators.instance, reloader, reload_supervised(reloader, operators.supervisor));
    } else {
      return {};
    }
  }
}

}  // namespace limpid
