// Firewalls reload in several steps, so it waits for a quiet moment before it looks, but not for long: as long as our table is
// missing, nothing is intercepted.
#include "service/plan_guard.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "intercept/ebpf.h"
#include "intercept/install.h"
#include "intercept/survey.h"
#include "service/signals.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kQuiet{50};
constexpr std::chrono::milliseconds kLongestWait{400};
/// Undone within this time, so many times in a row: something is fighting back.
constexpr std::chrono::milliseconds kStruckBack{250};
constexpr unsigned kMostStrikes = 10;
/// Between two looks at what nobody announces.
constexpr std::chrono::milliseconds kLegacyLook{500};
/// Lines of a difference that a message shows.
constexpr std::size_t kMostShown = 3;

std::string in_words(const std::vector<std::string>& differences) {
  std::string text;
  for (std::size_t i = 0; i < std::min(differences.size(), kMostShown); ++i) {
    if (i > 0) text += "; ";
    text += differences[i];
  }
  if (differences.size() > kMostShown) text += fmt::format("; and {} more", differences.size() - kMostShown);
  return text;
}

/// The tables whose changes nftables announces: our own, or iptables' own, in which ours are.
std::vector<std::string> announced_tables(const Plan& plan) {
  switch (plan.inputs.ownership.backend) {
    case Backend::nftables: return {plan.table_name};
    case Backend::iptables_nft: return {"raw", "mangle", "filter"};
    case Backend::iptables_legacy:
    case Backend::ebpf: return {};
  }
  return {};
}

std::vector<LegacyTables::Table> legacy_tables(const Plan& plan) {
  std::vector<LegacyTables::Table> tables;
  for (const XtablesRuleset& rules : plan.xtables) {
    for (const XtablesTable& table : rules.tables) tables.push_back({.family = rules.family, .name = table.name});
  }
  return tables;
}

}  // namespace

Result<PlanGuard> PlanGuard::start(const Plan& plan, Repair mode, const Logger& log,
                                   std::shared_ptr<PlanCondition> condition) {
  const bool by_ebpf = plan.inputs.ownership.backend == Backend::ebpf;
  auto watch = ChangeWatch::open(announced_tables(plan), plan.inputs.ownership.table, /*and_links=*/by_ebpf);
  if (!watch) return std::unexpected(watch.error());
  std::optional<LegacyTables> legacy;
  if (plan.inputs.ownership.backend == Backend::iptables_legacy) {
    auto opened = LegacyTables::open(legacy_tables(plan));
    if (!opened) return std::unexpected(opened.error());
    legacy = std::move(*opened);
  }
  // Listening comes first: what changes while the listing is made is heard, and looked at.
  auto installed = list_installed(plan);
  if (!installed) return std::unexpected(installed.error());
  return PlanGuard(plan, mode, log, std::move(*watch), std::move(legacy), std::move(*installed), std::move(condition));
}

PlanGuard::PlanGuard(const Plan& plan, Repair mode, const Logger& log, ChangeWatch watch,
                     std::optional<LegacyTables> legacy, std::string installed,
                     std::shared_ptr<PlanCondition> condition)
    : plan_(&plan),
      log_(&log),
      mode_(mode),
      watch_(std::move(watch)),
      legacy_(std::move(legacy)),
      next_look_(Clock::now() + kLegacyLook),
      installed_(std::move(installed)),
      condition_(std::move(condition)) {}

/// Takes what has been heard, and looks at what nobody announces. True if something of it concerns us.
bool PlanGuard::take_news() {
  const bool heard = watch_.take();
  bool seen = legacy_ && legacy_->have_changed();
  if (by_ebpf()) {
    // A program that is detached is announced nowhere; a new interface must not wait.
    follow_interfaces();
    const auto drift = find_drift(*plan_, installed_);
    seen = drift && !drift->empty();
  }
  next_look_ = Clock::now() + kLegacyLook;
  return heard || seen;
}

bool PlanGuard::by_ebpf() const noexcept {
  return plan_->inputs.ownership.backend == Backend::ebpf;
}

void PlanGuard::follow_interfaces() {
  const auto followed = follow_links(*plan_);
  if (!followed) {
    log_->warning("could not attach to new interfaces", {field("error", followed.error().message())});
    return;
  }
  for (const std::string& name : *followed) log_->info("following a new interface", {field("interface", name)});
}

void PlanGuard::hear() {
  if (!take_news() || gave_up_) return;
  last_heard_ = Clock::now();
  if (!first_heard_) first_heard_ = last_heard_;
}

std::chrono::milliseconds PlanGuard::patience() const {
  if (!first_heard_ && ((!legacy_ && !by_ebpf()) || gave_up_)) return std::chrono::milliseconds{-1};
  const auto until = first_heard_ ? std::min(last_heard_ + kQuiet, *first_heard_ + kLongestWait) : next_look_;
  return std::max(std::chrono::milliseconds{0}, std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()));
}

void PlanGuard::look() {
  if ((legacy_ || by_ebpf()) && !first_heard_ && Clock::now() >= next_look_) hear();
  if (!first_heard_ || patience().count() > 0) return;
  const auto heard = *std::exchange(first_heard_, std::nullopt);
  warn_of_rules_before_ours();
  const auto drift = find_drift(*plan_, installed_);
  if (!drift) {
    log_->warning("could not look whether the rules are still there", {field("error", drift.error().message())});
    return;
  }
  condition_->disturbed = !drift->empty();
  if (drift->empty()) {
    if (std::exchange(reported_, false)) log_->info("the rules are as they should be again");
    return;
  }
  if (mode_ == Repair::off) {
    if (!std::exchange(reported_, true)) {
      ++condition_->drifts;
      log_->warning("somebody has changed our rules; they are left so (--repair off)",
                    {field("found", in_words(*drift))});
    }
    return;
  }
  ++condition_->drifts;
  log_->warning("somebody has changed our rules; putting them back", {field("found", in_words(*drift))});
  repair(heard);
}

/// Nothing of ours is missing then, and yet our packets go elsewhere. Whose rule it is, only the operator can know.
void PlanGuard::warn_of_rules_before_ours() {
  const auto& ownership = plan_->inputs.ownership;
  auto warnings =
      find_precedence_warnings({.mark = ownership.mark, .table = ownership.table, .priority = ownership.priority});
  if (!warnings) return;
  for (const std::string& warning : *warnings) {
    if (std::ranges::find(warned_of_, warning) == warned_of_.end()) log_->warning(warning);
  }
  warned_of_ = std::move(*warnings);
}

void PlanGuard::repair(Clock::time_point heard) {
  if (is_a_fight(heard)) {
    gave_up_ = true;
    condition_->gave_up = true;
    log_->error(
        "something takes our rules away again and again, so they are not put back any more (find it: `nft monitor`, "
        "`ip monitor rule`; "
        "then restart)",
        {field("repairs", condition_->repairs)});
    return;
  }
  const auto planning_lock = lock_planning();
  if (auto installed = install_plan(*plan_); !installed) {
    log_->error("could not put the rules back", {field("error", installed.error().message())});
    // Again when something changes; and soon, in case that what was in the way has just gone.
    first_heard_ = last_heard_ = Clock::now() + std::chrono::seconds(1);
    return;
  }
  ++condition_->repairs;
  condition_->disturbed = false;
  last_repair_ = Clock::now();
  // What we have done ourselves is no news.
  if (take_news()) first_heard_ = last_heard_ = Clock::now();
}

bool PlanGuard::is_a_fight(Clock::time_point heard) {
  strikes_ = last_repair_ && heard - *last_repair_ < kStruckBack ? strikes_ + 1 : 0;
  return strikes_ >= kMostStrikes;
}

Status PlanGuard::follow_plan() {
  auto installed = list_installed(*plan_);
  if (!installed) return std::unexpected(installed.error());
  installed_ = std::move(*installed);
  // What we have done ourselves is no news.
  first_heard_.reset();
  if (take_news()) first_heard_ = last_heard_ = Clock::now();
  return {};
}

int keep_until_signal(int signal_fd, PlanGuard* guard, std::chrono::milliseconds patience, int also) {
  using std::chrono::milliseconds;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    std::array<pollfd, 4> wanted{pollfd{signal_fd, POLLIN, 0}, pollfd{-1, POLLIN, 0}, pollfd{-1, POLLIN, 0},
                                 pollfd{also, POLLIN, 0}};
    milliseconds wait{-1};
    if (patience.count() >= 0) {
      wait = std::max(milliseconds{0}, std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now()));
    }
    if (guard != nullptr) {
      wanted[1].fd = guard->descriptors()[0];
      wanted[2].fd = guard->descriptors()[1];
      const auto until_look = guard->patience();
      if (until_look.count() >= 0 && (wait.count() < 0 || until_look < wait)) wait = until_look;
    }
    poll(wanted.data(), wanted.size(), static_cast<int>(wait.count()));
    if (guard != nullptr) {
      if (wanted[1].revents != 0 || wanted[2].revents != 0) guard->hear();
      guard->look();
    }
    if (wanted[0].revents != 0) {
      if (const int signal = next_signal(signal_fd, milliseconds{0}); signal != 0) return signal;
    }
    if (wanted[3].revents != 0) return kSomebodyAsks;
    if (patience.count() >= 0 && std::chrono::steady_clock::now() >= deadline) return 0;
  }
}

}  // namespace limpid
