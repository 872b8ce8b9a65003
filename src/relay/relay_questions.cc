// Questions of operators to all workers at once, and to whoever has flows without sockets. Part of Relay. The workers' answers are put together by
// whoever asked, on his thread: no worker waits for another, or sorts.
#include <algorithm>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <utility>

#include "relay/clock.h"
#include "relay/relay.h"

namespace limpid {
namespace {

FlowView view_of(const OffloadedLife& life, std::int64_t now_us) {
  const FlowRecord& record = life.record;
  FlowView view;
  if (record.protocol == Protocol::udp) {
    view.name.kind = FlowName::Kind::cut_udp;
    view.name.client = record.client;
    view.name.original_destination = record.original_destination;
  } else {
    view.name.kind = FlowName::Kind::cut_tcp;
    view.name.number = life.id;
  }
  view.state = "cut_through";
  view.protocol = record.protocol;
  view.cut_through = true;
  view.source = record.source;
  view.client = record.client;
  view.original_destination = record.original_destination;
  view.target = record.target;
  view.bytes_up = record.bytes_up;
  view.bytes_down = record.bytes_down;
  const std::int64_t age_us = std::max<std::int64_t>(0, now_us - record.started_us);
  view.age_ms = static_cast<std::uint64_t>(age_us / 1000);
  view.idle_ms = static_cast<std::uint64_t>(std::max<std::int64_t>(0, age_us - record.duration_us) / 1000);
  view.upstream = record.upstream;
  view.ruling = record.ruling;
  return view;
}

/// So that a million flows on pages are looked at once, and not once for each page.
void begin_behind(FlowErrand& errand, const FlowName& after, std::size_t worker) {
  constexpr auto kNothing = std::numeric_limits<std::uint32_t>::max();
  const bool of_workers = after.kind == FlowName::Kind::tcp || after.kind == FlowName::Kind::udp;
  if (of_workers && after.worker < worker) return;
  const bool here = of_workers && after.worker == worker;
  errand.in_udp = !here || after.kind == FlowName::Kind::udp;
  errand.next = here ? std::max(after.index, after.index + 1) : kNothing;
}

}  // namespace

std::shared_ptr<FlowSearch> Relay::search_flows(FlowQuery query, std::function<void()> done) {
  auto search = std::make_shared<FlowSearch>(std::move(query), std::move(done));
  search->open_ = workers_.size();
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    auto errand = std::make_shared<FlowErrand>();
    errand->query = std::shared_ptr<const FlowQuery>(search, &search->query_);
    errand->found = std::make_unique<FlowCollection>(search->query_);
    if (search->query_.after) begin_behind(*errand, *search->query_.after, i);
    // The search holds the errand, which holds the search, until the worker has answered.
    errand->done = [search] {
      if (search->open_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
      const auto call = std::exchange(search->done_, nullptr);  // which may hold the search
      call();
    };
    search->errands_.push_back(errand);
  }
  for (std::size_t i = 0; i < workers_.size(); ++i) workers_[i]->send_on_errand(search->errands_[i]);
  return search;
}

FlowPage Relay::finish_search(FlowSearch& search) const {
  const FlowQuery& query = search.query_;
  FlowCollection all(query);
  for (const auto& errand : search.errands_) all.merge(std::move(*errand->found));
  if (offload_ != nullptr && collector_ != nullptr) {
    std::vector<FlowView> lives;
    if (!all.is_full()) {
      const std::int64_t now_us = wall_clock_us();
      offload_->list([&](const OffloadedLife& life) {
        FlowView view = view_of(life, now_us);
        if (query.after && !comes_before(*query.after, view.name)) return;
        if (matches(query.filter, view, view.ruling)) lives.push_back(std::move(view));
      });
      std::ranges::sort(lives,
                        [](const FlowView& one, const FlowView& other) { return comes_before(one.name, other.name); });
    }
    for (FlowView& view : lives) all.add(std::move(view));
    for (FlowView& view : all.views()) add_what_passed_by(view);
  }
  FlowPage page = make_page(query, all);
  search.errands_.clear();
  return page;
}

void Relay::view_flow(const FlowName& name, std::function<void(std::optional<FlowView>)> done) {
  if (name.kind == FlowName::Kind::cut_tcp || name.kind == FlowName::Kind::cut_udp) {
    std::optional<FlowView> seen;
    if (offload_ != nullptr && collector_ != nullptr) {
      const std::int64_t now_us = wall_clock_us();
      offload_->list([&](const OffloadedLife& life) {
        FlowView view = view_of(life, now_us);
        if (comes_before(view.name, name) || comes_before(name, view.name)) return;
        view.legs = {.client = {.local = view.original_destination, .remote = view.client}, .target = life.target_leg};
        seen = std::move(view);
      });
    }
    return done(std::move(seen));
  }
  if (name.worker >= workers_.size()) return done(std::nullopt);
  auto errand = std::make_shared<FlowErrand>();
  errand->look = name;
  errand->done = [this, weak = std::weak_ptr(errand), done = std::move(done)] {
    const auto self = weak.lock();
    if (self && self->seen) add_what_passed_by(*self->seen);
    done(self ? std::move(self->seen) : std::nullopt);
  };
  workers_[name.worker]->send_on_errand(std::move(errand));
}

/// Of sessions that keep a socket, what was forwarded past it is known there only.
void Relay::add_what_passed_by(FlowView& view) const {
  if (offload_ == nullptr || collector_ == nullptr || view.name.kind != FlowName::Kind::udp || !view.cut_through)
    return;
  const auto past = offload_->session_traffic(view.client, view.original_destination);
  if (!past) return;
  view.bytes_up += past->bytes.up;
  view.bytes_down += past->bytes.down;
  view.idle_ms = std::min<std::uint64_t>(view.idle_ms, static_cast<std::uint64_t>(past->idle.count()));
}

void Relay::kill_flow(const FlowName& name, std::function<void(bool)> done) {
  switch (name.kind) {
    case FlowName::Kind::cut_tcp: return done(offload_ != nullptr && offload_->kill(name.number));
    case FlowName::Kind::cut_udp:
      return done(offload_ != nullptr && offload_->kill_session(name.client, name.original_destination));
    case FlowName::Kind::tcp:
    case FlowName::Kind::udp: break;
  }
  if (name.worker >= workers_.size()) return done(false);
  auto errand = std::make_shared<FlowErrand>();
  errand->kill = name;
  // The errand holds itself until the worker has done it: weak here, or it would for ever.
  errand->done = [weak = std::weak_ptr(errand), done = std::move(done)] {
    const auto self = weak.lock();
    done(self && self->killed);
  };
  workers_[name.worker]->send_on_errand(std::move(errand));
}

AuditOutcome Relay::end_forbidden(std::chrono::milliseconds patience) {
  struct Audit {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t open = 0;   ///< workers that are not done
    std::size_t ended = 0;  ///< by those that are
  };
  const auto audit = std::make_shared<Audit>();  // a worker that is late must find it
  audit->open = workers_.size();
  for (const auto& worker : workers_) {
    auto errand = std::make_shared<FlowErrand>();
    errand->audits = true;
    errand->done = [audit, weak = std::weak_ptr(errand)] {
      const auto self = weak.lock();
      const std::lock_guard lock(audit->mutex);
      audit->ended += self ? self->ended : 0;
      --audit->open;
      audit->changed.notify_one();
    };
    worker->send_on_errand(std::move(errand));
  }
  AuditOutcome outcome;
  {
    std::unique_lock lock(audit->mutex);
    outcome.complete = audit->changed.wait_for(lock, patience, [&] { return audit->open == 0; });
    outcome.ended = audit->ended;
  }
  if (collector_) outcome.ended += collector_->end_forbidden(*judge_);
  return outcome;
}

void Relay::ask_for_progress(std::function<void()> done) {
  struct Round {
    std::atomic<std::size_t> open;
    std::function<void()> done;
  };
  const auto round = std::make_shared<Round>(workers_.size(), std::move(done));
  for (const auto& worker : workers_) {
    auto errand = std::make_shared<FlowErrand>();  // asks for nothing
    errand->done = [round] {
      if (round->open.fetch_sub(1, std::memory_order_acq_rel) == 1) round->done();
    };
    worker->send_on_errand(std::move(errand));
  }
}

HistogramReading Relay::read(DurationHistogram Counters::* histogram) const noexcept {
  HistogramReading sum;
  for (const auto& worker : workers_) sum += (worker->counters().*histogram).read();
  if (collector_) sum += (collector_->counters().*histogram).read();
  return sum;
}

}  // namespace limpid
