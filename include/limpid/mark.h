// Names for the numbers that policy routing is made of: packet marks, table ids, rule priorities.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

/// A packet mark under a mask: a packet carries it when (packet mark & mask) == value. Bits of `value` outside `mask` are zero.
struct Mark {
  std::uint32_t value = 0;
  std::uint32_t mask = 0;

  /// Reads "0x1/0x3", "1/3" or "1" (mask 0xffffffff), as `ip rule` does. A value with bits outside its mask is an error.
  [[nodiscard]] static Result<Mark> parse(std::string_view text);
  /// "0x1/0x3".
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const Mark&) const = default;
};

/// A routing table, 1…2^32-1.
struct TableId {
  std::uint32_t value = 0;
  auto operator<=>(const TableId&) const = default;
};

/// The place of a policy routing rule; smaller is earlier.
struct RulePriority {
  std::uint32_t value = 0;
  auto operator<=>(const RulePriority&) const = default;
};

}  // namespace limpid
