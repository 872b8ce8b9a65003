// PortSet: which ports are meant, as users write them: "80,443,8000-8100".
#pragma once

#include <compare>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// Inclusive on both ends.
struct PortRange {
  Port first;
  Port last;
  auto operator<=>(const PortRange&) const = default;
};

/// Ports as sorted ranges that neither overlap nor touch.
class PortSet {
 public:
  /// Reads a comma-separated list of ports (1…65535) and ranges; "all" means 1-65535.
  [[nodiscard]] static Result<PortSet> parse(std::string_view text);

  void insert(PortRange range);
  [[nodiscard]] bool empty() const noexcept { return ranges_.empty(); }
  [[nodiscard]] bool contains(Port port) const noexcept;
  [[nodiscard]] std::span<const PortRange> ranges() const noexcept { return ranges_; }
  /// "80,443,8000-8100".
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const PortSet&) const = default;

 private:
  std::vector<PortRange> ranges_;
};

}  // namespace limpid
