// Theory of operation: messages are collected by packet id until one says that nothing more will come (a drop, or the end of input or
// postrouting), or until none has come for a while: then the packet was lost between two hooks, or another one took its id. A packet that
// this host sends to itself is two: one up to loopback, one from there.
#include "explain/live_trace.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "intercept/install.h"
#include "intercept/nft.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Netfilter's own work takes microseconds; a queue's program may take longer, and its packets are final before that.
constexpr milliseconds kSilence{300};
/// More packets than this at a time are not followed: the oldest are given up.
constexpr std::size_t kMostPackets = 4096;

Status remove_table() {
  return feed_nft(NftMode::apply, render_table_removal(kTraceTable), fmt::format("nft table inet {}", kTraceTable));
}

class Follower {
 public:
  Follower(const TraceOptions& options, Surroundings surroundings,
           const std::function<bool(const FollowedPacket&)>& each)
      : options_(options), surroundings_(std::move(surroundings)), each_(each) {
    surroundings_.rules = &rules_;
  }

  void take(std::vector<TraceEvent> events) {
    const auto now = Clock::now();
    for (TraceEvent& event : events) {
      rules_.learn(event);
      const std::uint32_t id = event.id;
      const bool final = is_final(event, surroundings_);
      Pending& packet = pending_[id];
      packet.heard = now;
      packet.events.push_back(std::move(event));
      if (final) finish(id);
      if (pending_.size() > kMostPackets) finish(oldest());
    }
  }

  /// Ends those of which nothing was heard for a while; all of them where `everything`.
  void sweep(bool everything) {
    std::vector<std::uint32_t> silent;
    for (const auto& [id, packet] : pending_) {
      if (everything || Clock::now() - packet.heard >= kSilence) silent.push_back(id);
    }
    for (const std::uint32_t id : silent) finish(id);
  }

  [[nodiscard]] bool idle() const { return pending_.empty(); }
  [[nodiscard]] bool done() const { return refused_ || (options_.count != 0 && summary_.shown >= options_.count); }
  [[nodiscard]] const TraceSummary& summary() const { return summary_; }

 private:
  struct Pending {
    std::vector<TraceEvent> events;
    Clock::time_point heard;
  };

  [[nodiscard]] std::uint32_t oldest() const {
    return std::ranges::min_element(pending_, {}, [](const auto& entry) { return entry.second.heard; })->first;
  }

  void finish(std::uint32_t id) {
    const auto found = pending_.find(id);
    FollowedPacket packet{.id = id, .walk = walk_of_packet(found->second.events, surroundings_), .verdict = {}};
    pending_.erase(found);
    if (!packet.walk.first) return;  // the rest of one whose beginning was given up
    ++summary_.followed;
    Evidence evidence;
    if (packet.walk.end == End::vanished) gather_evidence(packet.walk, {}, evidence);
    packet.verdict = judge(packet.walk, surroundings_, evidence);
    const bool lost = packet.verdict.outcome == Outcome::dropped || packet.verdict.outcome == Outcome::rejected;
    if (done() || (options_.drop_only && !lost)) return;
    ++summary_.shown;
    refused_ = !each_(packet);
  }

  const TraceOptions& options_;
  Surroundings surroundings_;
  RuleBook rules_;
  const std::function<bool(const FollowedPacket&)>& each_;  ///< false: nobody wants more
  bool refused_ = false;
  std::map<std::uint32_t, Pending> pending_;
  TraceSummary summary_;
};

Result<TraceSummary> follow(const TraceOptions& options, int stop, TraceSocket& traces, Follower& follower) {
  const auto end = options.timeout ? Clock::now() + *options.timeout : Clock::time_point::max();
  while (!follower.done()) {
    milliseconds patience = follower.idle() ? milliseconds(-1) : kSilence;
    if (options.timeout) {
      const auto left = std::max(std::chrono::ceil<milliseconds>(end - Clock::now()), milliseconds(0));
      if (left.count() == 0) break;
      patience = patience.count() < 0 ? left : std::min(patience, left);
    }
    std::array<pollfd, 2> waiting = {
        {{.fd = traces.descriptor(), .events = POLLIN, .revents = 0}, {.fd = stop, .events = POLLIN, .revents = 0}}};
    (void)poll(waiting.data(), waiting.size(), static_cast<int>(patience.count()));
    if (waiting[1].revents != 0) break;
    auto events = traces.take(milliseconds(0));
    if (!events) return std::unexpected(events.error());
    follower.take(std::move(*events));
    follower.sweep(/*everything=*/false);
  }
  follower.sweep(/*everything=*/true);
  TraceSummary summary = follower.summary();
  summary.losses = traces.losses();
  return summary;
}

}  // namespace

Result<TraceSummary> trace_packets(const TraceOptions& options, int stop, const std::function<void()>& ready,
                                   const std::function<bool(const FollowedPacket&)>& each) {
  auto traces = TraceSocket::open();
  if (!traces) return std::unexpected(traces.error());
  const auto lock = lock_tracing("trace");
  if (!lock) return std::unexpected(lock.error());
  auto routing = RouteSocket::open();
  if (!routing) return std::unexpected(routing.error());
  auto surroundings = look_around(*routing);
  if (!surroundings) return std::unexpected(surroundings.error());
  Follower follower(options, std::move(*surroundings), each);
  const std::string object = fmt::format("nft table inet {}", kTraceTable);
  if (auto made = feed_nft(NftMode::apply, render_trace_table(options.selection, getpid()), object); !made) {
    return std::unexpected(made.error());
  }
  ready();
  auto summary = follow(options, stop, *traces, follower);
  auto removed = remove_table();
  if (summary && !removed) return std::unexpected(removed.error());
  return summary;
}

}  // namespace limpid
