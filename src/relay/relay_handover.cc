// A relay gives its flows to the program that succeeds this one, or takes over those of its predecessor: all workers of it. Part of Relay. How it goes within a worker
// stands in worker_handover.cc; who speaks to the other process, in service/handover.cc.
#include <fmt/format.h>

#include <algorithm>

#include "relay/relay.h"

namespace limpid {

void Relay::begin() {
  if (offload_ != nullptr) collector_ = std::make_unique<OffloadCollector>(*offload_, shared_);
  for (auto& worker : workers_) {
    threads_.emplace_back([&each = *worker] { each.run(); });
  }
}

std::vector<ListenerDescriptors> Relay::listener_descriptors() const {
  std::vector<ListenerDescriptors> all;
  all.reserve(workers_.size());
  for (const auto& worker : workers_) all.push_back(worker->listener_descriptors());
  return all;
}

void Relay::keep_flows(bool keep) {
  shared_.keeps_flows.store(keep);
  if (!collector_) return;
  if (keep) {
    collector_->pause();
  } else {
    collector_->go_on();
  }
}

std::shared_ptr<FlowFreeze> Relay::freeze() {
  auto freeze = std::make_shared<FlowFreeze>(workers_.size());
  for (const auto& worker : workers_) {
    auto errand = std::make_shared<FlowErrand>();
    errand->freeze = freeze;
    errand->done = [freeze] { freeze->miss(); };
    worker->send_on_errand(std::move(errand));
  }
  return freeze;
}

Status Relay::adopt(std::span<const std::byte> packet, std::span<UniqueFd> descriptors) {
  RecordReader reader(packet);
  const auto part = reader.value(HandoverPart::datagrams);
  const auto worker = reader.number<std::uint16_t>();
  if (!reader.ok() || worker >= workers_.size())
    return failure("take over", "flows", "what the predecessor has sent makes no sense");
  return workers_[worker]->adopt(part, reader, descriptors);
}

Adopted Relay::adopted() const noexcept {
  Adopted sum{.complete = true};
  for (const auto& worker : workers_) {
    const Adopted own = worker->adopted();
    sum.flows += own.flows;
    sum.sessions += own.sessions;
    sum.complete = sum.complete && own.complete;
  }
  return sum;
}

void Relay::add_count(std::string_view name, std::uint64_t amount) noexcept {
  for (std::size_t i = 0; i < kCounterCount; ++i) {
    const auto counter = static_cast<Counter>(i);
    if (to_string(counter) == name) workers_.front()->add_count(counter, amount);
  }
}

}  // namespace limpid
