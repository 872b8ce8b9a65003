// The wheel: slot = tick modulo kSlots, each slot a doubly linked list through the nodes.
#include "relay/timer_wheel.h"

#include <algorithm>

namespace limpid {

TimerWheel::TimerWheel(std::uint64_t now_ms) : current_tick_(now_ms / kTickMs) {
  heads_.fill(kNone);
}

void TimerWheel::schedule(std::uint32_t index, std::uint64_t deadline_ms) {
  if (index >= nodes_.size()) nodes_.resize(std::max<std::size_t>(index + std::size_t{1}, nodes_.size() * 2));
  unlink(index);
  nodes_[index].deadline_ms = deadline_ms;
  // Rounded up: a tick is handled when it is over, so nothing fires early.
  const std::uint64_t tick = (deadline_ms + kTickMs - 1) / kTickMs;
  link(index, std::clamp(tick, current_tick_, current_tick_ + kSlots - 1));
}

void TimerWheel::cancel(std::uint32_t index) noexcept {
  if (index < nodes_.size()) unlink(index);
}

void TimerWheel::advance(std::uint64_t now_ms, std::vector<std::uint32_t>& expired) {
  const std::uint64_t last_tick = now_ms / kTickMs;
  // After a long sleep every slot is visited once, not once for each lap.
  if (last_tick > current_tick_ + kSlots) current_tick_ = last_tick - kSlots;
  for (; current_tick_ <= last_tick; ++current_tick_) {
    const std::size_t slot = current_tick_ % kSlots;
    if (!occupied_.test(slot)) continue;
    std::uint32_t index = heads_[slot];
    heads_[slot] = kNone;
    occupied_.reset(slot);
    while (index != kNone) {
      Node& node = nodes_[index];
      const std::uint32_t next = node.next;
      node = Node{.deadline_ms = node.deadline_ms};
      if (node.deadline_ms <= now_ms) {
        expired.push_back(index);
      } else {
        const std::uint64_t tick = (node.deadline_ms + kTickMs - 1) / kTickMs;
        link(index, std::clamp(tick, current_tick_ + 1, current_tick_ + kSlots - 1));
      }
      index = next;
    }
  }
}

int TimerWheel::wait_ms(std::uint64_t now_ms) const noexcept {
  if (occupied_.none()) return -1;
  std::uint64_t tick = current_tick_;
  while (!occupied_.test(tick % kSlots)) ++tick;
  const std::uint64_t due_ms = tick * kTickMs;
  return due_ms <= now_ms ? 0 : static_cast<int>(due_ms - now_ms);
}

void TimerWheel::link(std::uint32_t index, std::uint64_t tick) {
  const std::size_t slot = tick % kSlots;
  Node& node = nodes_[index];
  node.slot = static_cast<std::uint32_t>(slot);
  node.previous = kNone;
  node.next = heads_[slot];
  if (node.next != kNone) nodes_[node.next].previous = index;
  heads_[slot] = index;
  occupied_.set(slot);
}

void TimerWheel::unlink(std::uint32_t index) noexcept {
  Node& node = nodes_[index];
  if (node.slot == kNone) return;
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
  } else {
    heads_[node.slot] = node.next;
    if (node.next == kNone) occupied_.reset(node.slot);
  }
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  node = Node{.deadline_ms = node.deadline_ms};
}

}  // namespace limpid
