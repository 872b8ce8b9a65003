// Merging, binary search and the set operations, each in one pass over both operands, in which it skips what cannot matter.
#include "policy/range_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace limpid {
namespace {

constexpr Wide kMost = ~Wide{0};
/// ::ffff:0:0/96
constexpr Wide kMapped = Wide{0xffff} << 32U;
constexpr unsigned kMappedBits = 96;
constexpr Wide kLastMapped = kMapped | 0xffffffffU;

std::vector<WideRange> merged(std::vector<WideRange> ranges) {
  std::ranges::sort(ranges, {}, &WideRange::first);
  std::vector<WideRange> result;
  result.reserve(ranges.size());
  for (const WideRange& range : ranges) {
    if (!result.empty() && (result.back().last == kMost || range.first <= result.back().last + 1)) {
      result.back().last = std::max(result.back().last, range.last);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

using RangeIterator = std::vector<WideRange>::const_iterator;

/// The first of sorted ranges, from `at` on, that ends at `value` or behind it. In steps that double, so that a small set costs little beside a large one.
RangeIterator first_from(RangeIterator at, RangeIterator end, Wide value) noexcept {
  std::ptrdiff_t step = 1;
  while (end - at > step && at[step].last < value) {
    at += step;
    step *= 2;
  }
  return std::partition_point(at, end - at > step ? at + step : end,
                              [value](const WideRange& range) { return range.last < value; });
}

/// Of one family, whose addresses have `bits` bits; `range` without what maps IPv4.
void append_prefixes(WideRange range, unsigned bits, std::vector<Prefix>& prefixes) {
  for (;;) {
    unsigned free_bits = 0;  // as many as the beginning has zeros, and the end allows
    while (free_bits < bits) {
      const Wide mask = free_bits + 1 == 128 ? kMost : (Wide{1} << (free_bits + 1)) - 1;
      if ((range.first & mask) != 0 || range.last - range.first < mask) break;
      ++free_bits;
    }
    std::array<std::uint8_t, 16> bytes{};
    for (unsigned i = 0; i < bits / 8; ++i) bytes.at(i) = static_cast<std::uint8_t>(range.first >> (bits - 8 - 8 * i));
    const auto family = bits == 32 ? Family::ipv4 : Family::ipv6;
    const auto address = IpAddress::from_bytes(family, bytes);
    if (const auto prefix = Prefix::parse(fmt::format("{}/{}", address.to_string(), bits - free_bits)))
      prefixes.push_back(*prefix);
    const Wide size = free_bits == 128 ? 0 : Wide{1} << free_bits;
    if (size == 0 || range.last - range.first < size) return;
    range.first += size;
  }
}

}  // namespace

std::vector<Prefix> to_prefixes(const RangeSet& addresses) {
  const RangeSet mapped({WideRange{.first = kMapped, .last = kLastMapped}});
  std::vector<Prefix> prefixes;
  const RangeSet ipv4 = addresses.intersected(mapped);
  for (const WideRange& range : ipv4.ranges())
    append_prefixes({.first = range.first & 0xffffffffU, .last = range.last & 0xffffffffU}, 32, prefixes);
  const bool around = addresses.contains(kMapped - 1) && addresses.contains(kLastMapped + 1);
  const RangeSet ipv6 = around ? addresses.united(mapped) : addresses.intersected(mapped.complement(kMost));
  for (const WideRange& range : ipv6.ranges()) append_prefixes(range, 128, prefixes);
  return prefixes;
}

Wide to_wide(const IpAddress& address) noexcept {
  Wide value = 0;
  for (unsigned i = 0; i < address.bits() / 8; ++i) value = value << 8U | address.bytes()[i];
  return address.family() == Family::ipv4 ? kMapped | value : value;
}

void append_network(const Prefix& prefix, std::vector<WideRange>& ranges) {
  const bool ipv4 = prefix.family() == Family::ipv4;
  const unsigned length = prefix.length() + (ipv4 ? kMappedBits : 0);
  const Wide first = to_wide(prefix.network());
  const Wide last = first | (length == 0 ? kMost : (Wide{1} << (128 - length)) - 1);
  if (ipv4 || last < kMapped || first > kLastMapped) {
    ranges.push_back({.first = first, .last = last});
    return;
  }
  if (first < kMapped) ranges.push_back({.first = first, .last = kMapped - 1});
  if (last > kLastMapped) ranges.push_back({.first = kLastMapped + 1, .last = last});
}

RangeSet::RangeSet(std::vector<WideRange> ranges) : ranges_(merged(std::move(ranges))) {}

RangeSet::RangeSet(std::span<const Prefix> prefixes) {
  std::vector<WideRange> ranges;
  ranges.reserve(prefixes.size());
  for (const Prefix& prefix : prefixes) append_network(prefix, ranges);
  ranges_ = merged(std::move(ranges));
}

RangeSet::RangeSet(const PortSet& ports) {
  for (const PortRange& range : ports.ranges()) {
    ranges_.push_back({.first = range.first.value, .last = range.last.value});
  }
}

RangeSet RangeSet::up_to(Wide last) {
  return RangeSet({WideRange{.first = 0, .last = last}});
}

bool RangeSet::contains(Wide value) const noexcept {
  const auto after = std::ranges::upper_bound(ranges_, value, {}, &WideRange::first);
  return after != ranges_.begin() && value <= std::prev(after)->last;
}

bool RangeSet::covers(const RangeSet& other) const noexcept {
  auto mine = ranges_.begin();
  for (const WideRange& range : other.ranges_) {
    mine = first_from(mine, ranges_.end(), range.first);
    // Ranges of one set do not touch: what is not in a single one is not covered.
    if (mine == ranges_.end() || range.first < mine->first || mine->last < range.last) return false;
  }
  return true;
}

bool RangeSet::meets(const RangeSet& other) const noexcept {
  auto mine = ranges_.begin();
  auto theirs = other.ranges_.begin();
  while (mine != ranges_.end() && theirs != other.ranges_.end()) {
    if (mine->last < theirs->first) {
      mine = first_from(mine, ranges_.end(), theirs->first);
    } else if (theirs->last < mine->first) {
      theirs = first_from(theirs, other.ranges_.end(), mine->first);
    } else {
      return true;
    }
  }
  return false;
}

RangeSet RangeSet::united(const RangeSet& other) const {
  std::vector<WideRange> all = ranges_;
  all.insert(all.end(), other.ranges_.begin(), other.ranges_.end());
  return RangeSet(std::move(all));
}

RangeSet RangeSet::intersected(const RangeSet& other) const {
  RangeSet result;
  auto mine = ranges_.begin();
  auto theirs = other.ranges_.begin();
  while (mine != ranges_.end() && theirs != other.ranges_.end()) {
    if (mine->last < theirs->first) {
      mine = first_from(mine, ranges_.end(), theirs->first);
      continue;
    }
    if (theirs->last < mine->first) {
      theirs = first_from(theirs, other.ranges_.end(), mine->first);
      continue;
    }
    const Wide last = std::min(mine->last, theirs->last);
    result.ranges_.push_back({.first = std::max(mine->first, theirs->first), .last = last});
    (mine->last < theirs->last ? mine : theirs) += 1;
  }
  return result;
}

RangeSet RangeSet::complement(Wide last) const {
  RangeSet result;
  Wide next = 0;
  for (const WideRange& range : ranges_) {
    if (range.first > last) break;
    if (range.first > next) result.ranges_.push_back({.first = next, .last = range.first - 1});
    if (range.last >= last) return result;
    next = range.last + 1;
  }
  result.ranges_.push_back({.first = next, .last = last});
  return result;
}

std::uint64_t RangeSet::fingerprint() const noexcept {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a, by words
  const auto add = [&hash](Wide value) {
    hash = (hash ^ static_cast<std::uint64_t>(value >> 64U)) * 0x100'0000'01b3;
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x100'0000'01b3;
    hash ^= hash >> 32U;
  };
  for (const WideRange& range : ranges_) {
    add(range.first);
    add(range.last);
  }
  return hash;
}

}  // namespace limpid
