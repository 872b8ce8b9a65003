// Flows that go by name (the option of a rule's action): where the name leads that they ask for, or to an upstream as a name. Part of Worker.
//
// The question goes to NameLookups, and the worker goes on; the answer wakes it. Until then the flow has a client and nothing else: state resolving → connecting, or
// the end. It waits for as long as a connection may take. A name without an address, one that leads only to where no client may go, and one too many to be asked for end
// the flow: who is sent by name is never sent elsewhere instead.
#include <new>
#include <utility>

#include "relay/flow_end.h"
#include "relay/worker.h"

namespace limpid {

void Worker::dial_by_name(Flow& flow, FlowId id, const FlowVerdict& verdict) {
  if (verdict.dial.upstream != 0) return start_dialling(flow, id, verdict.dial, flow.ruling.name());
  if (options_.names == nullptr) return end_flow(flow, id, FlowEnd::name_unresolved, Closing::with_reset);
  const std::uint64_t until_ms = now_ms_ + static_cast<std::uint64_t>(options_.timeouts.connect.count());
  try {
    const auto asked =
        options_.names->ask(flow.ruling.name(), flow.original_destination.family(), flow.client_address.address,
                            until_ms, mailbox_, {.index = id.index, .generation = id.generation});
    switch (asked.outcome) {
      case NameLookups::Outcome::known:
        counters_.add(Counter::names_cached);
        return dial_resolved(flow, id, verdict.dial, *asked.resolved);
      case NameLookups::Outcome::refused: return end_flow(flow, id, FlowEnd::name_unresolved, Closing::with_reset);
      case NameLookups::Outcome::waiting: break;
    }
    wanted_.insert_or_assign(id.index, verdict.dial);
  } catch (const std::bad_alloc&) {
    return end_flow(flow, id, FlowEnd::error, Closing::with_reset);
  }
  counters_.add(Counter::names_asked);
  flow.state = FlowState::resolving;
  flow.give_up_ms = until_ms;
  timers_.schedule(id.index, flow.give_up_ms);
}

void Worker::dial_resolved(Flow& flow, FlowId id, const Dial& wanted, const ResolvedName& resolved) {
  const FlowKey key{.client = flow.client_address, .original_destination = flow.original_destination};
  const FlowVerdict verdict =
      decider_.dial_resolved(Transport::tcp, key, {.by_name = true, .dial = wanted, .ruling = flow.ruling}, resolved,
                             {.accepted = flow.client.fd.get()});
  flow.ruling = verdict.ruling;
  if (verdict.action != FlowVerdict::Action::relay) return end_flow(flow, id, end_of(verdict), Closing::with_reset);
  start_dialling(flow, id, verdict.dial, {});
}

void Worker::take_names() {
  if (!mailbox_) return;
  mailbox_->take(news_);
  for (const NameNews& news : std::exchange(news_, {})) {
    if (news.asker.datagrams) {
      if (udp_ != nullptr) udp_->take_name(news, now_ms_);
      continue;
    }
    const FlowId id{.index = news.asker.index, .generation = news.asker.generation};
    Flow* flow = flows_.find(id);
    if (flow == nullptr || flow->state != FlowState::resolving) continue;
    const auto wanted = wanted_.extract(id.index);
    dial_resolved(*flow, id, wanted.mapped(), *news.resolved);
  }
}

}  // namespace limpid
