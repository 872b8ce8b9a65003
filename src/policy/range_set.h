// RangeSet: a set of numbers as sorted ranges that neither overlap nor touch. Addresses of both families stand in one space of 128 bits (IPv4 as
// ::ffff:a.b.c.d), ports and protocols in the same type, so that rules can be compared with one algebra. Immutable; a look-up allocates nothing.
#pragma once

#include <span>
#include <vector>

#include "limpid/address.h"
#include "limpid/port_set.h"
#include "limpid/prefix.h"

namespace limpid {

__extension__ typedef unsigned __int128 Wide;  // NOLINT(modernize-use-using): __extension__ goes with typedef only

/// Both ends included.
struct WideRange {
  Wide first = 0;
  Wide last = 0;
  bool operator==(const WideRange&) const = default;
};

[[nodiscard]] Wide to_wide(const IpAddress& address) noexcept;
/// Adds what a network is in its own family: ::/0 is not IPv4, which stands in its midst. One range or two; none for a network of mapped addresses, which nobody sends from.
void append_network(const Prefix& prefix, std::vector<WideRange>& ranges);

class RangeSet;
/// The fewest networks that together are the set, of IPv4 first. ::ffff:0:0/96 stands for IPv4, so what is around it counts as one network of IPv6.
[[nodiscard]] std::vector<Prefix> to_prefixes(const RangeSet& addresses);

class RangeSet {
 public:
  /// Nothing.
  RangeSet() = default;
  /// In any order; may overlap.
  explicit RangeSet(std::vector<WideRange> ranges);
  /// As append_network() has it.
  explicit RangeSet(std::span<const Prefix> prefixes);
  explicit RangeSet(const PortSet& ports);
  /// 0…last.
  [[nodiscard]] static RangeSet up_to(Wide last);
  /// Every address.
  [[nodiscard]] static RangeSet all_addresses() { return up_to(~Wide{0}); }
  [[nodiscard]] static RangeSet all_ports() { return up_to(65535); }

  [[nodiscard]] bool contains(Wide value) const noexcept;
  [[nodiscard]] bool empty() const noexcept { return ranges_.empty(); }
  [[nodiscard]] std::span<const WideRange> ranges() const noexcept { return ranges_; }

  /// Whether every member of `other` is one of this.
  [[nodiscard]] bool covers(const RangeSet& other) const noexcept;
  /// Whether they have a member in common.
  [[nodiscard]] bool meets(const RangeSet& other) const noexcept;
  [[nodiscard]] RangeSet united(const RangeSet& other) const;
  [[nodiscard]] RangeSet intersected(const RangeSet& other) const;
  /// Those of 0…last that are not in it.
  [[nodiscard]] RangeSet complement(Wide last) const;

  /// The same for equal sets; another one, all but certainly, for others.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept;

  bool operator==(const RangeSet&) const = default;

 private:
  std::vector<WideRange> ranges_;
};

}  // namespace limpid
