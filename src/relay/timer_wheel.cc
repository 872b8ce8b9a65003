// The wheel: slot = tick modulo kSlots, each slot a doubly linked list through the nodes.
#include "relay/timer_wheel.h"

#include <algorithm>
#include <bit>

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
    if (!is_occupied(slot)) continue;
    std::uint32_t index = heads_[slot];
    heads_[slot] = kNone;
    set_occupied(slot, false);
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
  const std::size_t first = current_tick_ % kSlots;
  // The word with the current slot comes twice: at first without what lies before that slot, at last with it.
  for (std::size_t i = 0; i <= occupied_.size(); ++i) {
    const std::size_t at = (first / kWordBits + i) % occupied_.size();
    std::uint64_t word = occupied_[at];
    if (i == 0) word &= ~std::uint64_t{0} << (first % kWordBits);
    if (word == 0) continue;
    const std::size_t slot = at * kWordBits + static_cast<std::size_t>(std::countr_zero(word));
    const std::uint64_t due_ms = (current_tick_ + (slot + kSlots - first) % kSlots) * kTickMs;
    return due_ms <= now_ms ? 0 : static_cast<int>(due_ms - now_ms);
  }
  return -1;
}

void TimerWheel::set_occupied(std::size_t slot, bool occupied) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << (slot % kWordBits);
  std::uint64_t& word = occupied_[slot / kWordBits];
  word = occupied ? word | bit : word & ~bit;
}
void TimerWheel::link(std::uint32_t index, std::uint64_t tick) {
  const std::size_t slot = tick % kSlots;
  Node& node = nodes_[index];
  node.slot = static_cast<std::uint32_t>(slot);
  node.previous = kNone;
  node.next = heads_[slot];
  if (node.next != kNone) nodes_[node.next].previous = index;
  heads_[slot] = index;
  set_occupied(slot, true);
}

void TimerWheel::unlink(std::uint32_t index) noexcept {
  Node& node = nodes_[index];
  if (node.slot == kNone) return;
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
  } else {
    heads_[node.slot] = node.next;
    if (node.next == kNone) set_occupied(node.slot, false);
  }
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  node = Node{.deadline_ms = node.deadline_ms};
}

}  // namespace limpid
