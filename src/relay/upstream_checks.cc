// Rounds: all members that are due are asked at one time, so that one that does not answer holds up nobody.
#include "relay/upstream_checks.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "relay/clock.h"
#include "relay/upstream_check.h"

namespace limpid {
namespace {

/// How soon a stop is heard in the middle of a round, and how soon others' failures are reported.
constexpr std::chrono::milliseconds kSlice{100};
/// One that does not answer at all must not hold up the next round.
constexpr std::chrono::milliseconds kLeastPatience{1000};
/// Why one is down whose checks succeed.
constexpr std::string_view kFlowsFailed = "flows failed through it";

}  // namespace

UpstreamChecks::UpstreamChecks(std::shared_ptr<const UpstreamGroups> groups, std::uint32_t mark, Report report)
    : groups_(std::move(groups)), mark_(mark), report_(std::move(report)) {
  const auto now = monotonic_ms();
  for (const auto number : groups_->at_work()) {
    UpstreamGroup& group = groups_->at(number);
    for (unsigned i = 0; i < group.options().members.size(); ++i) {
      if (!group.is_checked(i)) continue;
      members_.push_back({.group = &group, .index = i, .next_ms = now, .was_up = group.state(i).up, .cause = {}});
    }
  }
  if (!members_.empty()) thread_ = std::jthread([this](const std::stop_token& token) { work(token); });
}

void UpstreamChecks::work(const std::stop_token& stopped) {
  std::mutex mutex;
  std::condition_variable_any woken;
  while (!stopped.stop_requested()) {
    run_round(stopped, monotonic_ms());
    report_changes();
    std::unique_lock lock(mutex);
    woken.wait_for(lock, stopped, kSlice, [] { return false; });
  }
}

void UpstreamChecks::run_round(const std::stop_token& stopped, std::uint64_t now_ms) {
  struct Asked {
    Member* member;
    UpstreamCheck check;
  };
  std::vector<Asked> asked;
  std::chrono::milliseconds patience{0};
  for (auto& member : members_) {
    if (now_ms < member.next_ms) continue;
    const auto& options = member.group->options();
    member.next_ms = now_ms + static_cast<std::uint64_t>(options.check_interval.count());
    asked.push_back({.member = &member, .check = UpstreamCheck(*member.group, member.index, mark_, tls_)});
    patience = std::max(patience, std::min(options.timeout, std::max(options.check_interval, kLeastPatience)));
  }
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const auto is_open = [](const Asked& each) { return !each.check.healthy(); };
  while (std::ranges::any_of(asked, is_open) && !stopped.stop_requested() &&
         std::chrono::steady_clock::now() < deadline) {
    std::vector<pollfd> wanted;
    for (const Asked& each : asked) {
      const auto& check = each.check;
      wanted.push_back({.fd = check.healthy() ? -1 : check.descriptor(), .events = check.wanted(), .revents = 0});
    }
    poll(wanted.data(), wanted.size(), static_cast<int>(kSlice.count()));
    for (std::size_t i = 0; i < asked.size(); ++i) {
      if (wanted[i].revents != 0) asked[i].check.step();
    }
  }
  if (stopped.stop_requested()) return;
  for (const Asked& each : asked) {
    const bool healthy = each.check.healthy().value_or(false);
    each.member->cause = healthy ? "" : each.check.cause();
    each.member->group->checked(each.member->index, healthy, each.check.connected_us());
  }
}

void UpstreamChecks::report_changes() {
  for (auto& member : members_) {
    const bool up = member.group->state(member.index).up;
    if (up == member.was_up) continue;
    member.was_up = up;
    report_(*member.group, member.index, up, member.cause.empty() ? kFlowsFailed : std::string_view(member.cause));
  }
}

}  // namespace limpid
