// A linear search over outlines that lie side by side in memory beats a tree for as many rules as people write, and its cost is known beforehand.
#include "policy/box_order.h"

#include <tuple>
#include <utility>

namespace limpid {
namespace {

/// What an exact comparison costs beside one of outlines, but for what large sets add.
constexpr std::size_t kExact = 16;

/// Of a set that is not empty.
WideRange ends_of(const RangeSet& set) noexcept {
  return {.first = set.ranges().front().first, .last = set.ranges().back().last};
}

bool covers(const WideRange& one, const WideRange& other) noexcept {
  return one.first <= other.first && other.last <= one.last;
}

bool meets(const WideRange& one, const WideRange& other) noexcept {
  return one.first <= other.last && other.first <= one.last;
}

std::size_t cost_of(const RuleBox& box) noexcept {
  return kExact + box.source.ranges().size() + box.destination.ranges().size() + box.source_ports.ranges().size() +
         box.destination_ports.ranges().size();
}

}  // namespace

BoxOrder::Outline::Outline(const RuleBox& box) noexcept
    : source(ends_of(box.source)),
      destination(ends_of(box.destination)),
      first_source_port(static_cast<std::uint16_t>(ends_of(box.source_ports).first)),
      last_source_port(static_cast<std::uint16_t>(ends_of(box.source_ports).last)),
      first_port(static_cast<std::uint16_t>(ends_of(box.destination_ports).first)),
      last_port(static_cast<std::uint16_t>(ends_of(box.destination_ports).last)),
      names(0),
      transports(static_cast<std::uint8_t>((box.tcp ? 1U : 0U) | (box.udp ? 2U : 0U))) {
  for (const NameCondition& name : box.names) names |= std::uint32_t{1} << (name.names >> 59U);
}

bool BoxOrder::Outline::may_cover(const Outline& other) const noexcept {
  return covers(destination, other.destination) && covers(source, other.source) && (names & ~other.names) == 0 &&
         first_port <= other.first_port && other.last_port <= last_port &&
         first_source_port <= other.first_source_port && other.last_source_port <= last_source_port &&
         (other.transports & ~unsigned{transports}) == 0;
}

bool BoxOrder::Outline::may_meet(const Outline& other) const noexcept {
  return meets(destination, other.destination) && meets(source, other.source) && first_port <= other.last_port &&
         other.first_port <= last_port && first_source_port <= other.last_source_port &&
         other.first_source_port <= last_source_port && (transports & other.transports) != 0;
}

void BoxOrder::add(RuleBox box, std::size_t rule) {
  if (box.empty()) return;
  outlines_.emplace_back(box);
  entries_.push_back({.box = std::move(box), .rule = rule});
}

bool BoxOrder::pay(std::size_t comparisons) noexcept {
  if (comparisons > left_) {
    left_ = 0;
    exhausted_ = true;
    return false;
  }
  left_ -= comparisons;
  return true;
}

template <class May, class Does>
std::optional<std::size_t> BoxOrder::first(const RuleBox& box, May may, Does does) {
  const Outline outline(box);
  const std::size_t cost = cost_of(box);
  std::size_t paid = 0;
  for (std::size_t i = 0; i < outlines_.size(); ++i) {
    if (!may(outlines_[i], outline)) continue;
    if (!pay(cost + i - paid)) return std::nullopt;
    paid = i;
    if (does(entries_[i].box, box)) return entries_[i].rule;
  }
  std::ignore = pay(outlines_.size() - paid);
  return std::nullopt;
}

std::optional<std::size_t> BoxOrder::first_covering(const RuleBox& box) {
  if (exhausted_ || box.empty()) return std::nullopt;
  return first(
      box, [](const Outline& one, const Outline& other) { return one.may_cover(other); },
      [](const RuleBox& one, const RuleBox& other) { return one.covers(other); });
}

std::optional<std::size_t> BoxOrder::first_meeting(const RuleBox& box) {
  if (exhausted_ || box.empty()) return std::nullopt;
  return first(
      box, [](const Outline& one, const Outline& other) { return one.may_meet(other); },
      [](const RuleBox& one, const RuleBox& other) { return one.meets(other); });
}

}  // namespace limpid
