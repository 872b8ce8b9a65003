// Field by field; and the life of the programs, from the start of a service to its end.
#include "service/cut_through.h"

#include <algorithm>
#include <utility>

#include "cutthrough/cut_through.h"

namespace limpid {
namespace {

CutThroughWay translate(const OffloadWay& way) {
  return {.from = way.from,
          .to = way.to,
          .new_from = way.new_from,
          .new_to = way.new_to,
          .seq_delta = way.sequence_delta,
          .peer_scale = way.peer_scale,
          .our_scale = way.our_scale,
          .clock = way.clock,
          .rcv_nxt = way.received,
          .right_edge = way.announced_end,
          .write_seq = way.written};
}

FlowEnd translate(CutThroughEnd end) noexcept {
  switch (end) {
    case CutThroughEnd::closed: return FlowEnd::closed;
    case CutThroughEnd::client_reset: return FlowEnd::client_reset;
    case CutThroughEnd::target_reset: return FlowEnd::target_reset;
    case CutThroughEnd::idle_timeout: return FlowEnd::idle_timeout;
    case CutThroughEnd::stopped: return FlowEnd::stopped;
  }
  return FlowEnd::error;
}

FlowRecord translate(const CutThroughRecord& record) {
  return {.client = record.facts.client,
          .original_destination = record.facts.original_destination,
          .target = record.facts.target,
          .bytes_up = record.facts.bytes_up,
          .bytes_down = record.facts.bytes_down,
          .started_us = record.facts.started_us,
          .duration_us = record.duration_us,
          .source = static_cast<SourceMode>(record.facts.source),
          .protocol = Protocol::tcp,
          .end = translate(record.end),
          .cut_through = true};
}

FlowEnd end_of(const CutThroughSessionRecord& record) noexcept {
  if (record.killed) return FlowEnd::killed;
  if (record.stopped) return FlowEnd::stopped;
  return record.session.answered ? FlowEnd::closed : FlowEnd::unanswered;
}

FlowRecord translate(const CutThroughSessionRecord& record) {
  const CutThroughSession& session = record.session;
  return {.client = session.legs.client,
          .original_destination = session.legs.original_destination,
          .target = session.legs.target,
          .bytes_up = session.bytes_up,
          .bytes_down = session.bytes_down,
          .started_us = session.started_us,
          .duration_us = record.duration_us,
          .source = static_cast<SourceMode>(session.source),
          .protocol = Protocol::udp,
          .end = end_of(record),
          .cut_through = true};
}

/// "Never" is more than anybody waits for.
std::chrono::seconds patience(std::chrono::milliseconds timeout) {
  constexpr std::chrono::hours kNever{24 * 365};
  return timeout.count() == 0 ? kNever : std::chrono::ceil<std::chrono::seconds>(timeout);
}

bool is_left_over(const std::string& name) {
  const auto found = find_cut_through();
  return found && std::ranges::find(*found, name) != found->end();
}

}  // namespace

CutThroughOffload::CutThroughOffload(std::unique_ptr<CutThrough> cut, bool netfilter, const Logger& log)
    : cut_(std::move(cut)), netfilter_(netfilter), log_(log), adopted_(cut_->list().size()) {}

std::size_t CutThroughOffload::adopted_sessions() const noexcept {
  return cut_->datagrams().adopted();
}

void CutThroughOffload::succeed() {
  leave();
  adopted_ = cut_->flows();
}

std::uint64_t CutThroughOffload::self() const noexcept {
  return cut_->datagrams().self();
}

CutThroughOffload::~CutThroughOffload() {
  if (!left_) close([](const FlowRecord&) {});
}

bool CutThroughOffload::is_taken(Protocol protocol, const SocketAddress& source, const SocketAddress& destination) {
  return protocol == Protocol::udp ? cut_->datagrams().taken(source, destination) : cut_->taken(source, destination);
}

Status CutThroughOffload::begin_session(const OffloadedSession& session) {
  const auto& record = session.record;
  const auto begun = cut_->datagrams().begin({.legs = {.client = record.client,
                                                       .original_destination = record.original_destination,
                                                       .source = session.source,
                                                       .target = record.target},
                                              .kept = session.kept,
                                              .bytes_up = record.bytes_up,
                                              .bytes_down = record.bytes_down,
                                              .started_us = record.started_us,
                                              .source = static_cast<std::uint8_t>(record.source),
                                              .answered = session.answered});
  if (begun && !session.kept && record.ruling.asked) {
    const std::lock_guard lock(mutex_);
    session_rulings_[{record.client, record.original_destination}] = record.ruling;
  }
  return begun;
}

std::optional<OffloadedTraffic> CutThroughOffload::session_traffic(const SocketAddress& client,
                                                                   const SocketAddress& original_destination) {
  const auto traffic = cut_->datagrams().look(client, original_destination);
  if (!traffic) return std::nullopt;
  return OffloadedTraffic{.bytes = {.up = traffic->bytes_up, .down = traffic->bytes_down},
                          .answered = traffic->answered,
                          .idle = std::chrono::duration_cast<std::chrono::milliseconds>(traffic->idle)};
}

OffloadedBytes CutThroughOffload::end_session(const SocketAddress& client, const SocketAddress& original_destination) {
  const auto traffic = cut_->datagrams().end(client, original_destination);
  return traffic ? OffloadedBytes{.up = traffic->bytes_up, .down = traffic->bytes_down} : OffloadedBytes{};
}

void CutThroughOffload::add_to_session(const SocketAddress& client, const SocketAddress& original_destination,
                                       const OffloadedBytes& bytes) {
  cut_->datagrams().add(client, original_destination, bytes.up, bytes.down);
}

Result<std::uint64_t> CutThroughOffload::begin(const OffloadedFlow& flow) {
  const auto& record = flow.record;
  const auto id = cut_->begin({.up = translate(flow.up),
                               .down = translate(flow.down),
                               .timestamps = flow.timestamps,
                               .sack = flow.sack,
                               .facts = {.client = record.client,
                                         .original_destination = record.original_destination,
                                         .target = record.target,
                                         .bytes_up = record.bytes_up,
                                         .bytes_down = record.bytes_down,
                                         .started_us = record.started_us,
                                         .source = static_cast<std::uint8_t>(record.source)}});
  if (!id) return std::unexpected(id.error());
  {
    const std::lock_guard lock(mutex_);
    if (record.ruling.asked) rulings_[id->value] = record.ruling;
    if (!record.upstream.empty()) upstreams_[id->value] = record.upstream;
  }
  return id->value;
}

Status CutThroughOffload::settle(std::uint64_t id, LateFins fins) {
  // Octets that our sockets have passed on after the hand-over are known to the programs only if others follow them.
  const auto state = cut_->look({id});
  const bool unseen = state && (state->bytes_up < fins.at_least.up || state->bytes_down < fins.at_least.down);
  if (fins.client || fins.target || unseen) {
    const std::lock_guard lock(mutex_);
    late_[id] = fins;
  }
  return cut_->settle({id}, {.client = fins.client, .target = fins.target});
}

std::optional<OffloadedBytes> CutThroughOffload::end(std::uint64_t id) {
  if (left_) {
    warn(cut_->end({id}, /*leaves_record=*/true));
    return std::nullopt;
  }
  OffloadedBytes bytes;
  {
    const std::lock_guard lock(mutex_);
    upstreams_.erase(id);
    rulings_.erase(id);
  }
  if (const auto state = cut_->look({id})) bytes = {.up = state->bytes_up, .down = state->bytes_down};
  warn(cut_->end({id}));
  return bytes;
}

void CutThroughOffload::release(std::uint64_t id) {
  if (netfilter_) warn(cut_->release({id}));
}

bool CutThroughOffload::is_reset(std::uint64_t id) {
  const auto state = cut_->look({id});
  return !state || state->client_reset || state->target_reset;
}

FlowRecord CutThroughOffload::complete(const CutThroughRecord& record) {
  FlowRecord complete = translate(record);
  const std::lock_guard lock(mutex_);
  if (const auto late = late_.find(record.id.value); late != late_.end()) {
    // The programs have seen a late FIN's acknowledgement only, and may have taken it for that of an octet.
    const LateFins& fins = late->second;
    complete.bytes_up = fins.client ? fins.at_least.up : std::max(complete.bytes_up, fins.at_least.up);
    complete.bytes_down = fins.target ? fins.at_least.down : std::max(complete.bytes_down, fins.at_least.down);
    late_.erase(late);
  }
  if (killed_.erase(record.id.value) > 0) complete.end = FlowEnd::killed;
  if (const auto told = rulings_.find(record.id.value); told != rulings_.end()) {
    complete.ruling = std::move(told->second);
    rulings_.erase(told);
  }
  if (forbidden_.erase(record.id.value) != 0) complete.end = FlowEnd::rejected;
  if (const auto upstream = upstreams_.find(record.id.value); upstream != upstreams_.end()) {
    complete.upstream = upstream->second;
    upstreams_.erase(upstream);
  }
  return complete;
}

FlowRecord CutThroughOffload::with_ruling(const CutThroughSessionRecord& record) {
  FlowRecord session = translate(record);
  const std::lock_guard lock(mutex_);
  const auto told = session_rulings_.find({session.client, session.original_destination});
  if (told != session_rulings_.end()) session.ruling = told->second;
  return session;
}

FlowRecord CutThroughOffload::complete(const CutThroughSessionRecord& record) {
  FlowRecord session = with_ruling(record);
  const std::lock_guard lock(mutex_);
  session_rulings_.erase({session.client, session.original_destination});
  return session;
}

void CutThroughOffload::list(const std::function<void(const OffloadedLife&)>& sink) {
  for (const CutThroughRecord& record : cut_->list()) {
    OffloadedLife life{.id = record.id.value,
                       .record = translate(record),
                       .target_leg = {.local = record.target_local, .remote = record.target_remote}};
    {
      const std::lock_guard lock(mutex_);
      if (const auto told = rulings_.find(record.id.value); told != rulings_.end()) life.record.ruling = told->second;
      if (const auto upstream = upstreams_.find(record.id.value); upstream != upstreams_.end())
        life.record.upstream = upstream->second;
    }
    sink(life);
  }
  for (const CutThroughSessionRecord& record : cut_->datagrams().list())
    sink(OffloadedLife{.id = 0,
                       .record = with_ruling(record),
                       .target_leg = {.local = record.session.legs.source, .remote = record.session.legs.target}});
}

bool CutThroughOffload::kill(std::uint64_t id) {
  // One that is draining still is a flow of ours, of that name among those.
  if (const auto state = cut_->look({id}); state && state->phase == CutThroughPhase::draining) return false;
  {
    const std::lock_guard lock(mutex_);
    killed_.insert(id);
  }
  const bool there = cut_->end({id}).has_value();
  if (there) return true;
  const std::lock_guard lock(mutex_);
  killed_.erase(id);
  return false;
}

bool CutThroughOffload::kill_session(const SocketAddress& client, const SocketAddress& original_destination) {
  return cut_->datagrams().expire(client, original_destination);
}

std::size_t CutThroughOffload::end_forbidden(
    const std::function<std::optional<std::uint32_t>(const FlowRecord&)>& forbidden_by) {
  std::size_t ended = 0;
  for (const CutThroughRecord& record : cut_->list()) {
    FlowRecord flow = translate(record);
    {
      const std::lock_guard lock(mutex_);
      if (const auto told = rulings_.find(record.id.value); told != rulings_.end()) flow.ruling = told->second;
    }
    const auto rule = forbidden_by(flow);
    if (!rule) continue;
    {
      const std::lock_guard lock(mutex_);
      Ruling& ruling = rulings_[record.id.value];
      ruling.rule = *rule;
      ruling.asked = true;
      forbidden_.insert(record.id.value);
    }
    warn(cut_->end(record.id));
    ++ended;
  }
  std::optional<std::uint32_t> rule;
  const auto is_forbidden = [&](const CutThroughSessionRecord& record) {
    rule = forbidden_by(with_ruling(record));
    return rule.has_value();
  };
  cut_->datagrams().end_if(is_forbidden, [&](const CutThroughSessionRecord& record) {
    FlowRecord session = complete(record);
    session.end = FlowEnd::rejected;
    session.ruling.rule = rule.value_or(0);
    session.ruling.asked = true;
    const std::lock_guard lock(mutex_);
    refused_.push_back(std::move(session));
    ++ended;
  });
  return ended;
}

void CutThroughOffload::collect(const std::function<void(const FlowRecord&)>& sink) {
  follow_interfaces();
  warn(cut_->collect([&](const CutThroughRecord& record) { sink(complete(record)); }));
  std::vector<FlowRecord> refused;
  {
    const std::lock_guard lock(mutex_);
    refused.swap(refused_);
  }
  for (const FlowRecord& record : refused) sink(record);
  cut_->datagrams().collect([&](const CutThroughSessionRecord& record) { sink(complete(record)); });
}

void CutThroughOffload::close(const std::function<void(const FlowRecord&)>& sink) {
  if (std::exchange(closed_, true)) return;
  cut_->datagrams().close([&](const CutThroughSessionRecord& record) { sink(complete(record)); });
  warn(cut_->close([&](const CutThroughRecord& record) { sink(complete(record)); }));
}

void CutThroughOffload::follow_interfaces() {
  const auto followed = cut_->on_link_change();
  if (!followed) return warn(std::unexpected(followed.error()));
  for (const std::string& name : *followed) log_.debug("cut-through: attached", {field("interface", name)});
}

/// What goes wrong every second is said once.
void CutThroughOffload::warn(const Status& outcome) {
  if (outcome) return;
  const std::lock_guard lock(mutex_);
  if (auto message = outcome.error().message(); message != last_warning_) {
    log_.warning("cut-through", {field("error", message)});
    last_warning_ = std::move(message);
  }
}

bool needs_cut_through(const CutThroughRequest& request) {
  return request.mode != CutThroughMode::off || is_left_over(request.name);
}

Result<OpenedCutThrough> open_cut_through(const CutThroughRequest& request, const Logger& log) {
  const bool wanted = request.mode != CutThroughMode::off;
  auto cut =
      CutThrough::open({.name = request.name,
                        .filter_priority = request.filter_priority,
                        .mark = request.mark,
                        .netfilter = request.netfilter,
                        .idle_timeout = patience(request.timeouts.idle),
                        .half_closed_timeout = patience(request.timeouts.half_closed),
                        .predecessor_stays = request.predecessor != 0
                                                 ? std::chrono::ceil<std::chrono::seconds>(request.predecessor_stays)
                                                 : std::chrono::seconds{0},
                        .datagrams = {.self = request.predecessor,
                                      .timeout = patience(request.udp_timeouts.answered),
                                      .unanswered_timeout = patience(request.udp_timeouts.unanswered),
                                      .dns_timeout = patience(request.udp_timeouts.dns)}});
  if (!cut) {
    if (request.mode == CutThroughMode::always) {
      Error error = std::move(cut.error());
      error.operation = "--cut-through always: " + error.operation;
      return std::unexpected(std::move(error));
    }
    log.warning("no cut-through here: every flow is relayed", {field("because", cut.error().message())});
    return OpenedCutThrough{};
  }
  OpenedCutThrough opened{.offload = std::make_unique<CutThroughOffload>(std::move(*cut), request.netfilter, log),
                          .hands_over = wanted};
  if (request.predecessor != 0) opened.offload->succeed();
  const std::size_t flows = opened.offload->adopted();
  const std::size_t sessions = opened.offload->adopted_sessions();
  if (flows + sessions > 0) {
    log.info("flows that were cut through by an earlier process go on",
             {field("flows", flows), field("udp_sessions", sessions)});
  }
  return opened;
}

}  // namespace limpid
