// A list that is replaced whole: a flow in the middle of its attempts finds its place again by the address that failed.
#include "policy/target_list.h"

#include <algorithm>
#include <cassert>

namespace limpid {

TargetList::TargetList(const TargetGroups& groups, TargetOrder order) : order_(order), flat_(flatten(groups)) {}

std::shared_ptr<const TargetList::Flat> TargetList::flatten(const TargetGroups& groups) {
  auto flat = std::make_shared<Flat>();
  for (const auto& group : groups) {
    const std::size_t begin = flat->targets.size();
    for (const Target& target : group) {
      // Two names may have one address; trying it twice would only take twice as long.
      const bool known = std::ranges::find(flat->targets, target.address, &Target::address) != flat->targets.end();
      if (!known) flat->targets.push_back(target);
    }
    if (flat->targets.size() > begin) flat->begins.push_back(begin);
  }
  assert(!flat->targets.empty());
  return flat;
}

std::shared_ptr<const TargetList::Flat> TargetList::current() const noexcept {
  const std::lock_guard lock(mutex_);
  return flat_;
}

void TargetList::replace(const TargetGroups& groups) {
  auto flat = flatten(groups);
  const std::lock_guard lock(mutex_);
  flat_.swap(flat);
}

Target TargetList::first() noexcept {
  const auto flat = current();
  if (order_ == TargetOrder::as_given) return flat->targets.front();
  const std::size_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
  return flat->targets[flat->begins[turn % flat->begins.size()]];
}

std::optional<Target> TargetList::after(const SocketAddress& failed, unsigned attempts) const noexcept {
  const auto flat = current();
  if (attempts >= flat->targets.size()) return std::nullopt;
  const auto found = std::ranges::find(flat->targets, failed, &Target::address);
  // An address that has gone from the list in the meantime: its successors are the new ones.
  if (found == flat->targets.end()) return flat->targets.front();
  const auto next = std::next(found);
  return next == flat->targets.end() ? flat->targets.front() : *next;
}

bool TargetList::contains(const SocketAddress& address) const noexcept {
  const auto flat = current();
  return std::ranges::find(flat->targets, address, &Target::address) != flat->targets.end();
}

std::vector<Target> TargetList::all() const {
  return current()->targets;
}

}  // namespace limpid
