// Connections to resolvers, read on their way so that names are learnt out of answers (`--dns-hint`). Part of Worker.
#include <new>
#include <utility>

#include "relay/worker.h"

namespace limpid {

/// A flow whose target has just answered, if it goes to a resolver.
void Worker::watch_dns(Flow& flow, FlowId id) {
  if (options_.hints == nullptr || flow.original_destination.port != kDnsPort) return;
  if (offloader_ != nullptr) offloader_->keep(flow, StayReason::dns_answers);
  constexpr std::size_t kMostWatched = 1024;  // of one worker: each may hold two messages
  if (dns_.size() >= kMostWatched) return;
  if (flow.sent_with_syn > 0) return;  // its first question is past us, and where the next one begins is not known
  try {
    dns_.insert_or_assign(id.index, std::make_unique<DnsWatch>(*options_.hints));
  } catch (const std::bad_alloc&) {
    return;  // it teaches nothing
  }
}

std::pair<PumpOutcome, PumpOutcome> Worker::pump_both(Flow& flow, FlowId id) {
  const auto found = dns_.empty() ? dns_.end() : dns_.find(id.index);
  if (found == dns_.end()) {
    const auto up = pump(flow.up, flow.client, flow.target, resources_);
    return {up, pump(flow.down, flow.target, flow.client, resources_)};
  }
  DnsWatch& watch = *found->second;
  const ByteTap questions = [&](std::span<const std::byte> bytes) { watch.take_up(bytes, flow.target_address); };
  const ByteTap answers = [&](std::span<const std::byte> bytes) {
    counters_.add(Counter::names_learnt,
                  watch.take_down(bytes, flow.target_address, flow.client_address.address, now_ms_));
  };
  resources_.tap = &questions;
  const auto up = pump(flow.up, flow.client, flow.target, resources_);
  resources_.tap = &answers;
  const auto down = pump(flow.down, flow.target, flow.client, resources_);
  resources_.tap = nullptr;
  return {up, down};
}

}  // namespace limpid
