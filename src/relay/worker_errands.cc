// What operators want of a worker's flows: a look at them, a bounded number a turn, and the end of one. Part of Worker.
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "relay/clock.h"
#include "relay/worker.h"

namespace limpid {
namespace {

/// About 20 µs of looking; then packets have their turn.
constexpr std::uint32_t kSlotsPerTurn = 512;

}  // namespace

void ErrandBox::take(std::vector<std::shared_ptr<FlowErrand>>& into) {
  const std::lock_guard lock(mutex_);
  into.insert(into.end(), std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  waiting_.clear();
}

bool ErrandBox::put(std::shared_ptr<FlowErrand> errand) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  waiting_.push_back(std::move(errand));
  return true;
}

void ErrandBox::close(std::vector<std::shared_ptr<FlowErrand>>& into) {
  take(into);
  const std::lock_guard lock(mutex_);
  closed_ = true;
  into.insert(into.end(), std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  waiting_.clear();
}

namespace {

/// Called once, and gone with what it holds.
void finish_errand(FlowErrand& errand) {
  const auto done = std::exchange(errand.done, nullptr);
  done();
}

}  // namespace

void Worker::send_on_errand(std::shared_ptr<FlowErrand> errand) {
  if (errand_box_.put(errand)) {
    eventfd_write(command_.get(), 1);
  } else {
    finish_errand(*errand);
  }
}

FlowView Worker::view_of(const Flow& flow, std::uint32_t index) const noexcept {
  FlowView view;
  view.name = {.kind = FlowName::Kind::tcp, .worker = number_, .index = index, .generation = flow.generation};
  view.state = to_string(flow.state);
  view.protocol = Protocol::tcp;
  view.cut_through = flow.state == FlowState::leaving;
  view.source = flow.source;
  view.client = flow.client_address;
  view.original_destination = flow.original_destination;
  view.target = flow.target_address;
  view.bytes_up = flow.up.bytes;
  view.bytes_down = flow.down.bytes;
  view.age_ms = now_ms_ - std::min(now_ms_, flow.started_ms);
  view.idle_ms = now_ms_ - std::min(now_ms_, std::max(flow.started_ms, flow.last_activity_ms));
  if (flow.upstream) view.upstream = flow.upstream->shown();
  return view;
}

/// One flow, with what takes system calls to tell.
std::optional<FlowView> Worker::look_at(const FlowName& name) {
  if (name.kind == FlowName::Kind::udp) {
    auto view = udp_ != nullptr ? udp_->view_session(name.index, now_ms_) : std::nullopt;
    if (!view || view->name.generation != name.generation) return std::nullopt;
    view->name.worker = number_;
    view->legs = udp_->legs_of(name.index);
    return view;
  }
  const Flow* flow = flows_.find({.index = name.index, .generation = name.generation});
  if (flow == nullptr) return std::nullopt;
  FlowView view = view_of(*flow, name.index);
  view.ruling = flow->ruling;
  view.legs = {.client = {.local = flow->original_destination, .remote = flow->client_address}};
  if (!flow->target.fd.valid()) return view;
  const int fd = flow->target.fd.get();
  const SocketAddress dialled = flow->upstream ? SocketAddress{} : flow->target_address;
  view.legs->target = flow->target.encrypted ? tls_.network_addresses(fd) : addresses_of_leg(fd, dialled);
  return view;
}

/// A part of an errand. True when it is done.
bool Worker::run_errand(FlowErrand& errand) {
  if (errand.audits) return audit(errand);
  if (errand.query == nullptr) {
    errand.killed = errand.kill && kill(*errand.kill);
    if (errand.look) errand.seen = look_at(*errand.look);
    return true;
  }
  const FlowQuery& query = *errand.query;
  for (std::uint32_t looked = 0; looked < kSlotsPerTurn; ++looked) {
    if (errand.found->is_full()) return true;
    if (!errand.in_udp) {
      if (errand.next >= flows_.capacity()) {
        errand.in_udp = true;
        errand.next = 0;
        continue;
      }
      const std::uint32_t index = errand.next++;
      const Flow* flow = flows_.at(index);
      if (flow == nullptr) continue;
      FlowView view = view_of(*flow, index);
      if (query.after && !comes_before(*query.after, view.name)) continue;
      if (!matches(query.filter, view, flow->ruling)) continue;
      view.ruling = flow->ruling;
      errand.found->add(std::move(view));
      continue;
    }
    if (udp_ == nullptr || errand.next >= udp_->session_slots()) return true;
    const std::uint32_t index = errand.next++;
    auto view = udp_->view_session(index, now_ms_);
    if (!view) continue;
    view->name.worker = number_;
    if (query.after && !comes_before(*query.after, view->name)) continue;
    if (matches(query.filter, *view, view->ruling)) errand.found->add(std::move(*view));
  }
  return false;
}

void Worker::run_errands() {
  // Who only asks whether we still come here does not wait for those with work to do: it may be a watchdog.
  std::erase_if(errands_, [](const auto& errand) {
    const bool asks_for_nothing = errand->query == nullptr && !errand->kill && !errand->look && !errand->audits;
    if (asks_for_nothing) finish_errand(*errand);
    return asks_for_nothing;
  });
  if (errands_.empty()) return;
  const auto errand = errands_.front();
  if (!run_errand(*errand)) return;
  errands_.erase(errands_.begin());
  finish_errand(*errand);
}

/// Whoever still waits at the end of the worker hears that there is nothing.
void Worker::give_up_errands() {
  errand_box_.close(errands_);
  for (const auto& errand : errands_) finish_errand(*errand);
  errands_.clear();
}

/// Both sides are reset. Of a flow that is about to leave, the programs that have it by now are told.
bool Worker::kill(const FlowName& name) {
  if (name.kind == FlowName::Kind::udp) return udp_ != nullptr && udp_->kill(name.index, name.generation);
  const FlowId id{.index = name.index, .generation = name.generation};
  Flow* flow = flows_.find(id);
  if (flow == nullptr) return false;
  if (flow->state == FlowState::leaving && options_.offload != nullptr && flow->settled)
    options_.offload->kill(flow->offload_id);
  end_flow(*flow, id, FlowEnd::killed, Closing::with_reset);
  return true;
}

}  // namespace limpid
