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

CutThroughOffload::CutThroughOffload(std::unique_ptr<CutThrough> cut, const Logger& log)
    : cut_(std::move(cut)), log_(log), adopted_(cut_->list().size()) {}

CutThroughOffload::~CutThroughOffload() {
  close([](const FlowRecord&) {});
}

bool CutThroughOffload::is_taken(const SocketAddress& source, const SocketAddress& destination) {
  return cut_->taken(source, destination);
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
  return id->value;
}

Status CutThroughOffload::settle(std::uint64_t id, LateFins fins) {
  if (fins.client || fins.target) {
    const std::lock_guard lock(mutex_);
    late_[id] = fins.at_least;
  }
  return cut_->settle({id}, {.client = fins.client, .target = fins.target});
}

OffloadedBytes CutThroughOffload::end(std::uint64_t id) {
  OffloadedBytes bytes;
  if (const auto state = cut_->look({id})) bytes = {.up = state->bytes_up, .down = state->bytes_down};
  warn(cut_->end({id}));
  return bytes;
}

bool CutThroughOffload::is_reset(std::uint64_t id) {
  const auto state = cut_->look({id});
  return !state || state->client_reset || state->target_reset;
}

FlowRecord CutThroughOffload::complete(const CutThroughRecord& record) {
  FlowRecord complete = translate(record);
  const std::lock_guard lock(mutex_);
  if (const auto late = late_.find(record.id.value); late != late_.end()) {
    complete.bytes_up = std::max(complete.bytes_up, late->second.up);
    complete.bytes_down = std::max(complete.bytes_down, late->second.down);
    late_.erase(late);
  }
  return complete;
}

void CutThroughOffload::collect(const std::function<void(const FlowRecord&)>& sink) {
  follow_interfaces();
  warn(cut_->collect([&](const CutThroughRecord& record) { sink(complete(record)); }));
}

void CutThroughOffload::close(const std::function<void(const FlowRecord&)>& sink) {
  if (std::exchange(closed_, true)) return;
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

Result<OpenedCutThrough> open_cut_through(const CutThroughRequest& request, const Logger& log) {
  const bool wanted = request.mode != CutThroughMode::off;
  if (!wanted && !is_left_over(request.name)) return OpenedCutThrough{};
  auto cut = CutThrough::open({.name = request.name,
                               .filter_priority = request.filter_priority,
                               .mark = request.mark,
                               .idle_timeout = patience(request.timeouts.idle),
                               .half_closed_timeout = patience(request.timeouts.half_closed)});
  if (!cut) {
    if (request.mode == CutThroughMode::always) {
      Error error = std::move(cut.error());
      error.operation = "--cut-through always: " + error.operation;
      return std::unexpected(std::move(error));
    }
    log.warning("no cut-through here: every flow is relayed", {field("because", cut.error().message())});
    return OpenedCutThrough{};
  }
  OpenedCutThrough opened{.offload = std::make_unique<CutThroughOffload>(std::move(*cut), log), .hands_over = wanted};
  if (opened.offload->adopted() > 0) {
    log.info("flows that were cut through by an earlier process go on", {field("flows", opened.offload->adopted())});
  }
  return opened;
}

}  // namespace limpid
