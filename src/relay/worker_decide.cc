// A flow at its beginning: the decision, and the wait for the first bytes where it depends on them. Part of Worker.
//
// Nothing is consumed: the bytes are peeked at, and wait in the client's socket for the target (and cut-through finds them there). Each arrival of bytes is an edge of
// epoll's; where the sniffer says how many it needs, SO_RCVLOWAT spares the edges between. A client that says too little, or nothing because its server speaks first,
// is decided about at the end of the patience, as one whose first bytes are unknown. States: deciding → connecting, resolving (worker_names.cc), ignoring, or the end.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "limpid/transparent.h"
#include "relay/flow_end.h"
#include "relay/worker.h"

namespace limpid {
namespace {

/// How long a dropped client is left without an answer. Its handshake is over, so silence needs a socket.
constexpr std::uint64_t kIgnoreMs = 30'000;

/// tcp_set_rcvlowat() in net/ipv4/tcp.c: less than that is not reported, but an end is.
void report_from(int fd, int bytes) noexcept {
  setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

}  // namespace

void Worker::begin_flow(Accepted accepted) {
  counters_.add(Counter::flows_total);
  const auto original = original_destination(accepted.fd.get());
  if (!original) return refuse(std::move(accepted), {}, FlowEnd::client_reset);  // reset before it was accepted
  if (is_introducer(accepted.client.address)) return await_introduction(std::move(accepted), *original);
  const FlowVerdict verdict = decider_.decide(
      Transport::tcp, {.client = accepted.client, .original_destination = *original}, {.accepted = accepted.fd.get()});
  if (verdict.action == FlowVerdict::Action::refuse || verdict.action == FlowVerdict::Action::reject)
    return refuse(std::move(accepted), *original, end_of(verdict), verdict.ruling);
  FlowId id;
  Flow* flow = begin_with_client(std::move(accepted), *original, id);
  if (flow != nullptr) obey(*flow, id, verdict);
}

/// A flow of which the client is known, and nothing else.
void Worker::begin_deciding(Flow& flow, FlowId id) {
  obey(flow, id,
       decider_.decide(Transport::tcp,
                       {.client = flow.client_address, .original_destination = flow.original_destination},
                       {.accepted = flow.client.fd.get()}));
}

void Worker::obey(Flow& flow, FlowId id, const FlowVerdict& verdict) {
  flow.ruling = verdict.ruling;
  switch (verdict.action) {
    case FlowVerdict::Action::relay:
      return verdict.by_name ? dial_by_name(flow, id, verdict) : start_dialling(flow, id, verdict.dial, {});
    case FlowVerdict::Action::drop: return ignore(flow, id);
    case FlowVerdict::Action::refuse:
    case FlowVerdict::Action::reject: return end_flow(flow, id, end_of(verdict), Closing::with_reset);
    case FlowVerdict::Action::look: break;
  }
  flow.state = FlowState::deciding;
  counters_.add(Counter::sniffed);
  flow.give_up_ms = now_ms_ + static_cast<std::uint64_t>(options_.timeouts.sniff.count());
  timers_.schedule(id.index, flow.give_up_ms);
  look_at_first_bytes(flow, id);
}

/// What the client has said so far; decides if that is enough, or if it says no more.
void Worker::look_at_first_bytes(Flow& flow, FlowId id) {
  const int fd = flow.client.fd.get();
  const std::size_t most = std::min(options_.sniff_bytes, shared_buffer_.size());
  const ssize_t there = recv(fd, shared_buffer_.data(), most, MSG_PEEK | MSG_DONTWAIT);
  if (there < 0 && errno != EAGAIN && errno != EINTR)
    return end_flow(flow, id, FlowEnd::client_reset, Closing::with_reset);
  const std::size_t count = there > 0 ? static_cast<std::size_t>(there) : 0;
  Sniffed sniffed;
  const auto outcome = sniff_stream(std::span<const std::byte>(shared_buffer_).first(count), sniffed);
  const bool no_more = there == 0 || flow.client.hangup || count == most || now_ms_ >= flow.give_up_ms;
  if (outcome == SniffOutcome::more && !no_more) {
    const std::size_t needed = std::min<std::size_t>(sniffed.bytes_needed, most);
    if (needed > count + 1) {
      report_from(fd, static_cast<int>(needed));
      flow.waits_for_bytes = true;
    }
    return;
  }
  decide(flow, id, outcome, sniffed);
}

void Worker::decide(Flow& flow, FlowId id, SniffOutcome outcome, const Sniffed& sniffed) {
  if (outcome != SniffOutcome::found) counters_.add(Counter::sniffed_unknown);
  if (std::exchange(flow.waits_for_bytes, false)) report_from(flow.client.fd.get(), 1);
  flow.client.readable = true;  // whatever was there, or came below the mark, was no edge, or one that is used up
  const FlowVerdict verdict = decider_.decide(
      Transport::tcp, {.client = flow.client_address, .original_destination = flow.original_destination},
      {.accepted = flow.client.fd.get()}, outcome, sniffed, flow.ruling);
  if (verdict.ruling.has_hint()) counters_.add(Counter::names_hinted);
  obey(flow, id, verdict);
}

/// Nothing is read and nothing is said, until the client gives up or the time is over.
void Worker::ignore(Flow& flow, FlowId id) {
  flow.state = FlowState::ignoring;
  if (mode_ != Mode::serving || flow.client.hangup) return end_flow(flow, id, FlowEnd::dropped, Closing::with_reset);
  timers_.schedule(id.index, now_ms_ + kIgnoreMs);
}

/// Nobody is to wait for them at the end of the service.
void Worker::end_ignored_flows() {
  for (std::uint32_t index = 0; index < flows_.capacity(); ++index) {
    Flow* flow = flows_.at(index);
    if (flow != nullptr && flow->state == FlowState::ignoring)
      end_flow(*flow, {.index = index, .generation = flow->generation}, FlowEnd::dropped, Closing::with_reset);
  }
}

}  // namespace limpid
