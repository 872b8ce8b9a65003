// The walk of a connection: accept → original destination → decision (worker_decide.cc) → target leg → two pumps → the end.
//
// Theory of operation. Each worker owns its listeners (SO_REUSEPORT spreads connections over them), its flows and
// everything they borrow; workers share only a count of open flows. Both legs are watched edge-triggered from the
// beginning; an event sets flags in its leg and the flow then does all it can. Flows that spend their budget wait in
// `ready_` for the next round.
#include "relay/worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "limpid/transparent.h"
#include "net/tcp_socket.h"
#include "relay/clock.h"
#include "relay/flow_end.h"
#include "relay/leg_queue.h"

namespace limpid {
namespace {

constexpr std::uint64_t kCommandData = 0xffff'ffff;
constexpr std::uint64_t kUdpData = 0xffff'fffe;
constexpr std::uint32_t kLegEvents = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET;
constexpr std::uint32_t kGone = EPOLLERR | EPOLLHUP;
constexpr int kAcceptBatch = 64;
/// How long listeners rest when there is no room: new connections are refused within this time, at little cost.
constexpr std::uint64_t kPauseMs = 10;
constexpr std::uint64_t kNever = UINT64_MAX;  // a deadline
/// generation (odd) | slot | which leg: 0 the client's, 1 the target's.
std::uint64_t event_data(FlowId id, bool target) noexcept {
  return (std::uint64_t{id.generation} << 32U) | (std::uint64_t{id.index} << 1U) | (target ? 1U : 0U);
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::create(const WorkerOptions& options, SharedRelayState& shared,
                                               WorkerListeners listeners) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return system_error(errno, "create epoll", "");
  UniqueFd command(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!command.valid()) return system_error(errno, "create eventfd", "");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kCommandData}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, command.get(), &event) != 0)
    return system_error(errno, "watch eventfd", "");
  auto acceptor = Acceptor::create(epoll.get(), std::move(listeners.tcp));
  if (!acceptor) return std::unexpected(acceptor.error());
  std::unique_ptr<Worker> worker(
      new Worker(options, shared, std::move(epoll), std::move(command), std::move(*acceptor)));
  if (options.offload != nullptr) {
    auto offloader = Offloader::create(*options.offload, options.local_ends);
    if (!offloader) return std::unexpected(offloader.error());
    worker->offloader_ = std::move(*offloader);
  }
  if (auto started = worker->start_udp(std::move(listeners.udp)); !started) return std::unexpected(started.error());
  return worker;
}

Worker::Worker(const WorkerOptions& options, SharedRelayState& shared, UniqueFd epoll, UniqueFd command,
               Acceptor acceptor)
    : options_(options),
      shared_(shared),
      epoll_(std::move(epoll)),
      command_(std::move(command)),
      acceptor_(std::move(acceptor)),
      decider_(options.policy, options.rules, options.hints),
      timers_(monotonic_ms()),
      pipes_(options.max_pipes),
      shared_buffer_(BufferPool::kLargestBytes),
      resources_{
          .shared_buffer = shared_buffer_, .buffers = buffers_, .pipes = pipes_, .counters = counters_, .tls = &tls_},
      number_(options.number) {}

Status Worker::start_udp(std::vector<UniqueFd> listeners) {
  if (options_.names != nullptr) mailbox_ = std::make_shared<NameMailbox>(command_.get());
  if (listeners.empty()) return {};
  UdpOptions udp = options_.udp;
  udp.names = options_.names;
  udp.mailbox = mailbox_;
  udp.hints = options_.hints;
  auto engine = UdpEngine::create(
      udp, std::move(listeners), counters_, [this](const FlowRecord& record) { emit(record); },
      {.offload = options_.offload != nullptr && options_.offload->passes_netfilter() ? nullptr : options_.offload,
       .local_ends = options_.local_ends,
       .open = &shared_.offloaded_sessions,
       .keeps_flows = &shared_.keeps_flows});
  if (!engine) return std::unexpected(engine.error());
  udp_ = std::move(*engine);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kUdpData}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, udp_->descriptor(), &event) != 0) {
    return system_error(errno, "watch", "UDP sockets");
  }
  return {};
}

void Worker::run() {
  std::array<epoll_event, 256> events{};
  acceptor_.keep_syn_headers(decider_.may_ask_for(Fact::hardware));
  begin_adopted();
  while (mode_ != Mode::stopping && (mode_ == Mode::serving || flows_.size() > 0)) {
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms());
    now_ms_ = monotonic_ms();
    for (int i = 0; i < count; ++i) {
      dispatch(events[static_cast<std::size_t>(i)].events, events[static_cast<std::size_t>(i)].data.u64);
    }
    give_others_a_turn();
    run_errands();
    expired_.clear();
    timers_.advance(now_ms_, expired_);
    for (const auto index : expired_) expire(index);
    if (udp_ != nullptr && udp_->wait_ms(now_ms_) == 0) run_udp();
    if (acceptor_.paused() && now_ms_ >= resume_ms_) acceptor_.resume();
    if (std::exchange(emitted_, false) && shared_.reader_waits.exchange(false, std::memory_order_acq_rel)) {
      eventfd_write(shared_.record_event.get(), 1);
    }
  }
  give_up_errands();
  end_all_flows();
  if (udp_ != nullptr) udp_->end_all(FlowEnd::stopped);
  acceptor_.close();
  if (mailbox_) mailbox_->close();
  finished_.store(true);
  eventfd_write(shared_.finished_event.get(), 1);
  eventfd_write(shared_.record_event.get(), 1);
}

void Worker::drain() noexcept {
  auto expected = Mode::serving;
  requested_.compare_exchange_strong(expected, Mode::draining);
  eventfd_write(command_.get(), 1);
}

void Worker::stop() noexcept {
  requested_.store(Mode::stopping);
  eventfd_write(command_.get(), 1);
}

int Worker::wait_ms() const noexcept {
  if (!ready_.empty() || !errands_.empty()) return 0;
  int timer = timers_.wait_ms(now_ms_);
  if (const int udp = udp_ != nullptr ? udp_->wait_ms(now_ms_) : -1; udp >= 0) {
    timer = timer < 0 ? udp : std::min(timer, udp);
  }
  if (!acceptor_.paused()) return timer;
  const int pause = resume_ms_ > now_ms_ ? static_cast<int>(resume_ms_ - now_ms_) : 0;
  return timer < 0 ? pause : std::min(timer, pause);
}

void Worker::dispatch(std::uint32_t events, std::uint64_t data) {
  if (data == kCommandData) return obey_commands();
  if (data == kUdpData) return run_udp();
  if ((data >> 32U) == 0) return accept_connections(static_cast<std::uint32_t>(data));

  const FlowId id{.index = static_cast<std::uint32_t>(data) >> 1U,
                  .generation = static_cast<std::uint32_t>(data >> 32U)};
  Flow* flow = flows_.find(id);
  if (flow == nullptr) return;  // ended by an earlier event of this very round
  const bool is_target = (data & 1U) != 0;
  Leg& leg = is_target ? flow->target : flow->client;
  if ((events & (EPOLLIN | EPOLLRDHUP | kGone)) != 0) leg.readable = true;
  if ((events & (EPOLLOUT | kGone)) != 0) leg.writable = true;
  if ((events & (EPOLLRDHUP | kGone)) != 0) leg.hangup = true;
  if ((events & EPOLLPRI) != 0) leg.urgent = leg.readable = true;
  switch (flow->state) {
    case FlowState::introducing: read_introduction(*flow, id); break;
    case FlowState::deciding:
      if ((events & kGone) != 0 && !has_unread_bytes(flow->client))
        return end_flow(*flow, id, FlowEnd::client_reset, Closing::with_reset);
      look_at_first_bytes(*flow, id);
      break;
    case FlowState::resolving: look_after_waiting_client(*flow, id, events); break;
    case FlowState::ignoring:
      if (leg.hangup) end_flow(*flow, id, FlowEnd::dropped, Closing::with_reset);
      break;
    case FlowState::connecting:
      if (is_target) {
        finish_connecting(*flow, id, events);
      } else {
        look_after_waiting_client(*flow, id, events);
      }
      break;
    case FlowState::handshaking:
      if (is_target) {
        shake_hands(*flow, id);
      } else {
        look_after_waiting_client(*flow, id, events);
      }
      break;
    case FlowState::leaving: leave_step(*flow, id); break;
    case FlowState::relaying:
      if ((events & kGone) != 0) note_reset_after_finish(*flow, is_target);
      relay_bytes(*flow, id);
      break;
    case FlowState::lingering:
      // Nothing will be acknowledged on a connection that is gone; after a graceful end EPOLLHUP alone only says that both have
      // finished.
      if ((events & EPOLLERR) != 0 || (flow->end != FlowEnd::closed && (events & kGone) != 0)) {
        return end_flow(*flow, id, flow->end, Closing::with_reset);
      }
      check_linger(*flow, id);
      break;
  }
}

/// A datagram must not make a TCP flow wait, nor the reverse: a bounded amount, then the other's turn.
void Worker::run_udp() {
  udp_->run(now_ms_);
}

void Worker::obey_commands() {
  eventfd_t ignored = 0;
  eventfd_read(command_.get(), &ignored);
  errand_box_.take(errands_);
  take_names();
  const Mode before = std::exchange(mode_, std::max(mode_, requested_.load()));
  if (mode_ != Mode::draining || before == Mode::draining) return;
  // Whoever completed a handshake before the drain began is still served.
  for (std::uint32_t listener = 0; listener < acceptor_.count(); ++listener) {
    Accepted accepted;
    while (acceptor_.accept(listener, accepted) == AcceptOutcome::accepted) {
      shared_.open_flows.fetch_add(1, std::memory_order_relaxed);
      begin_flow(std::move(accepted));
    }
  }
  acceptor_.close();
  end_ignored_flows();
  // Sessions end with the last TCP flow: new datagrams are not captured any more, answers still arrive until then.
  if (udp_ != nullptr) udp_->close_listeners();
}

void Worker::accept_connections(std::uint32_t listener) {
  acceptor_.keep_syn_headers(decider_.may_ask_for(Fact::hardware));  // for those that follow
  for (int i = 0; i < kAcceptBatch; ++i) {
    // Counted first, so that workers together never pass the limit.
    if (shared_.open_flows.fetch_add(1, std::memory_order_relaxed) >= options_.max_flows) {
      shared_.open_flows.fetch_sub(1, std::memory_order_relaxed);
      return refuse_connections(listener);
    }
    Accepted accepted;
    const auto outcome = acceptor_.accept(listener, accepted);
    if (outcome == AcceptOutcome::accepted) {
      begin_flow(std::move(accepted));
      if (!options_.once) continue;
      mode_ = Mode::draining;
      return acceptor_.close();
    }
    shared_.open_flows.fetch_sub(1, std::memory_order_relaxed);
    if (outcome == AcceptOutcome::exhausted) refuse_connections(listener);
    return;
  }
}

void Worker::refuse_connections(std::uint32_t listener) {
  Accepted accepted;
  for (int i = 0; i < kAcceptBatch; ++i) {
    if (acceptor_.accept_to_refuse(listener, accepted) != AcceptOutcome::accepted) break;
    counters_.add(Counter::flows_total);
    shared_.open_flows.fetch_add(1, std::memory_order_relaxed);
    const auto original = original_destination(accepted.fd.get());
    refuse(std::move(accepted), original.value_or(SocketAddress{}), FlowEnd::refused_limit);
    acceptor_.refill_reserve();
  }
  acceptor_.refill_reserve();
  acceptor_.pause();
  resume_ms_ = now_ms_ + kPauseMs;
}

/// Some targets cannot even be called (no route, no port left): the policy may have others. Leaves in `dial` who was called.
Result<TargetLeg> Worker::call_first_possible(Dial& dial, const ClientSide& client, std::uint32_t& attempts) {
  for (;;) {
    auto leg = open_leg(dial, client);
    ++attempts;
    if (leg) return leg;
    const auto next = options_.policy->next_dial(client.address, dial.target, attempts);
    if (!next) return leg;
    counters_.add(Counter::target_failovers);
    dial = *next;
  }
}

/// The client knows nothing of a failed attempt as long as there is another target; its bytes still wait in its socket.
void Worker::try_next_target(Flow& flow, FlowId id, FlowEnd end) {
  if (flow.upstream) return try_next_upstream(flow, id, end);
  auto next = options_.policy->next_dial(flow.client_address, flow.target_address, flow.attempts);
  if (!next) return end_flow(flow, id, end, Closing::with_reset);
  counters_.add(Counter::target_failovers);
  auto leg = call_first_possible(*next, {.fd = flow.client.fd.get(), .address = flow.client_address}, flow.attempts);
  if (!leg) return end_flow(flow, id, connect_failure(leg.error().code), Closing::with_reset);
  take_leg(flow, id, std::move(*leg), next->target);
}

void Worker::refuse(Accepted accepted, const SocketAddress& original_destination, FlowEnd end, const Ruling& ruling) {
  count_end(counters_, end);
  counters_.add(Counter::flows_ended);
  emit({.client = accepted.client,
        .original_destination = original_destination,
        .target = {},
        .started_us = wall_clock_us(),
        .end = end,
        .ruling = ruling});
  reset_connection(std::move(accepted.fd));
  shared_.open_flows.fetch_sub(1, std::memory_order_relaxed);
}

bool Worker::watch(const Flow& flow, FlowId id, bool target) {
  epoll_event event{.events = kLegEvents, .data = {.u64 = event_data(id, target)}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, (target ? flow.target : flow.client).fd.get(), &event) == 0;
}

/// A client that finished early (half-close) is served, and so are the last words of one that was reset; one that is gone without a
/// word needs no connection any more.
void Worker::look_after_waiting_client(Flow& flow, FlowId id, std::uint32_t events) {
  if ((events & kGone) != 0 && !has_unread_bytes(flow.client)) {
    end_flow(flow, id, FlowEnd::client_reset, Closing::with_reset);
  }
}

void Worker::finish_connecting(Flow& flow, FlowId id, std::uint32_t events) {
  int code = 0;
  socklen_t length = sizeof code;
  if (flow.target.encrypted) {
    code = tls_outcome(flow.target.fd.get());
    if (code == EINPROGRESS) return;
    if (code != 0)
      return try_next_target(flow, id, connect_failure(code == ECONNRESET || code == EPIPE ? EPROTO : code));
  } else {
    getsockopt(flow.target.fd.get(), SOL_SOCKET, SO_ERROR, &code, &length);
  }
  if (code == ECONNRESET || code == EPIPE) {
    // A refusal would be ECONNREFUSED (tcp_reset in net/ipv4/tcp_input.c): the handshake had succeeded, and what the
    // target sent before its RST is still to be read. The error is consumed by now, so remember it.
    flow.target.reset = true;
  } else if (code != 0) {
    return try_next_target(flow, id, connect_failure(code));
  } else if (!flow.target.encrypted && (events & EPOLLOUT) == 0) {
    return;
  }
  counters_.connect_time.add(std::chrono::microseconds{monotonic_us_low() - flow.dialled_us});
  if (flow.upstream && begin_handshake(flow, id)) return;
  start_relaying(flow, id);
}

void Worker::start_relaying(Flow& flow, FlowId id) {
  watch_dns(flow, id);
  if (flow.sent_with_syn > 0) {
    // A client that is gone has taken its unread bytes with it; what the target has of them is counted all the same.
    if (!discard_sent(flow.client.fd.get(), flow.sent_with_syn)) flow.client.reset = true;
    flow.up.bytes = flow.sent_with_syn;
    counters_.add(Counter::bytes_up, flow.sent_with_syn);
  }
  flow.state = FlowState::relaying;
  if (!flow.target.encrypted) reset_at_close(flow.target.fd.get());  // as its client's leg since it was accepted
  flow.last_activity_ms = now_ms_;
  flow.give_up_ms = 0;
  if (offloader_ != nullptr && options_.offload_age.count() > 0) {
    flow.give_up_ms = now_ms_ + static_cast<std::uint64_t>(options_.offload_age.count());
    schedule_idle(flow, id);
    return relay_bytes(flow, id);
  }
  schedule_idle(flow, id);
  // Before anything is read: then no bytes are on their way through us, and windows are still alike.
  if (!try_leave(flow, id)) relay_bytes(flow, id);
}

void Worker::relay_bytes(Flow& flow, FlowId id) {
  const bool was_half_closed = flow.up.done || flow.down.done;
  const auto bytes_up = flow.up.bytes;
  const auto bytes_down = flow.down.bytes;
  const auto [up, down] = pump_both(flow, id);
  if (flow.up.bytes != bytes_up) counters_.add(Counter::bytes_up, flow.up.bytes - bytes_up);
  if (flow.down.bytes != bytes_down) counters_.add(Counter::bytes_down, flow.down.bytes - bytes_down);
  flow.last_activity_ms = now_ms_;
  if (flow.up.bytes != bytes_up || flow.down.bytes != bytes_down) flow.silent_attempts = 0;

  if (up == PumpOutcome::no_memory || down == PumpOutcome::no_memory) {
    return end_flow(flow, id, FlowEnd::error, Closing::with_reset);
  }
  if (flow.client.reset || flow.target.reset) return follow_reset(flow, id);
  if (flow.up.done && flow.down.done) return finish(flow, id);
  if (!was_half_closed && (flow.up.done || flow.down.done)) schedule_idle(flow, id);
  if ((up == PumpOutcome::budget_spent || down == PumpOutcome::budget_spent) && !flow.queued) {
    flow.queued = true;
    ready_.push_back(id);
    return;
  }
  if (offloader_ != nullptr && try_leave(flow, id)) return;
}

void Worker::schedule_idle(const Flow& flow, FlowId id) {
  const bool half_closed = flow.up.done || flow.down.done;
  const auto patience = half_closed ? options_.timeouts.half_closed : options_.timeouts.idle;
  auto next = patience.count() > 0 ? flow.last_activity_ms + static_cast<std::uint64_t>(patience.count()) : kNever;
  if (offloader_ != nullptr && now_ms_ < flow.give_up_ms && Offloader::may_try_in_silence(flow))
    next = std::min(next, flow.give_up_ms);
  if (next == kNever) {
    timers_.cancel(id.index);
  } else {
    timers_.schedule(id.index, next);
  }
}

void Worker::expire(std::uint32_t index) {
  Flow* flow = flows_.at(index);
  if (flow == nullptr) return;
  const FlowId id{.index = index, .generation = flow->generation};
  switch (flow->state) {
    case FlowState::deciding: return look_at_first_bytes(*flow, id);
    case FlowState::resolving: return end_flow(*flow, id, FlowEnd::name_unresolved, Closing::with_reset);
    case FlowState::ignoring: return end_flow(*flow, id, FlowEnd::dropped, Closing::with_reset);
    case FlowState::introducing: return end_flow(*flow, id, FlowEnd::refused_proxy_header, Closing::with_reset);
    case FlowState::connecting: return try_next_target(*flow, id, FlowEnd::connect_timeout);
    case FlowState::handshaking: return expire_handshake(*flow, id);
    case FlowState::lingering: return check_linger(*flow, id);
    case FlowState::leaving: return leave_step(*flow, id);
    case FlowState::relaying: break;
  }
  if (offloader_ != nullptr && Offloader::may_try_in_silence(*flow) && try_leave(*flow, id)) return;
  // Bytes do not move the timer, they only note when they moved: most flows end before it fires once.
  const bool half_closed = flow->up.done || flow->down.done;
  const auto patience = half_closed ? options_.timeouts.half_closed : options_.timeouts.idle;
  if (patience.count() > 0 && now_ms_ >= flow->last_activity_ms + static_cast<std::uint64_t>(patience.count())) {
    return end_flow(*flow, id, FlowEnd::idle_timeout, Closing::with_reset);
  }
  schedule_idle(*flow, id);
}

void Worker::end_flow(Flow& flow, FlowId id, FlowEnd end, Closing closing) {
  if (flow.state == FlowState::leaving) return end_leaving(flow, id, end);
  timers_.cancel(id.index);
  if (flow.state == FlowState::resolving) wanted_.erase(id.index);
  if (!dns_.empty()) dns_.erase(id.index);
  release(flow.up, resources_);
  release(flow.down, resources_);
  record_end(flow, end);
  if (closing == Closing::with_reset) {
    if (flow.client.fd.valid()) reset_connection(std::move(flow.client.fd));
    if (flow.target.fd.valid() && flow.target.encrypted) tls_.give_up(flow.target.fd.get());
    if (flow.target.fd.valid()) reset_connection(std::move(flow.target.fd));
  } else {
    for (const Leg* leg : {&flow.client, &flow.target}) finish_at_close(leg->fd.get());
  }
  flows_.destroy(id);
  shared_.open_flows.fetch_sub(1, std::memory_order_relaxed);
}

void Worker::record_end(const Flow& flow, FlowEnd end) noexcept {
  count_end(counters_, end);
  counters_.add(Counter::flows_ended);
  const auto duration_ms = static_cast<std::int64_t>(monotonic_ms() - flow.started_ms);
  if (flow.state >= FlowState::relaying) counters_.flow_duration.add(std::chrono::milliseconds{duration_ms});
  emit({.client = flow.client_address,
        .original_destination = flow.original_destination,
        .target = flow.target_address,
        .bytes_up = flow.up.bytes,
        .bytes_down = flow.down.bytes,
        .started_us = wall_clock_us() - duration_ms * 1000,
        .duration_us = duration_ms * 1000,
        .source = flow.source,
        .end = end,
        .cut_through = flow.state == FlowState::leaving,
        .upstream = flow.upstream ? flow.upstream->shown() : std::string_view{},
        .ruling = flow.ruling});
}

void Worker::end_all_flows() {
  for (std::uint32_t index = 0; index < flows_.capacity(); ++index) {
    Flow* flow = flows_.at(index);
    if (flow != nullptr) {
      end_flow(*flow, {.index = index, .generation = flow->generation}, FlowEnd::stopped, Closing::with_reset);
    }
  }
}

void Worker::give_others_a_turn() {
  // Only those that wait now: a flow that spends its budget again waits for the next round.
  const std::size_t count = ready_.size();
  for (std::size_t i = 0; i < count; ++i) {
    const FlowId id = ready_[i];
    Flow* flow = flows_.find(id);
    if (flow == nullptr) continue;
    flow->queued = false;
    if (flow->state == FlowState::relaying) relay_bytes(*flow, id);
  }
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(count));
}

void Worker::emit(const FlowRecord& record) noexcept {
  if (!records_.push(record)) counters_.add(Counter::access_log_dropped);
  emitted_ = true;
  last_end_ = record.end;
}

}  // namespace limpid
