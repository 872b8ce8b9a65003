// ClientSet: what conditions about a client's facts leave of all clients, as a product of sets, so that such conditions can be compared: can both be met,
// does one take all that another would? Pure; a part of RuleBox.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/client_test.h"
#include "policy/range_set.h"

namespace limpid {

/// Values of a fact that patterns are about, and "not told", which meets none. Of two patterns, one is within the other, or no value meets both.
class PatternSet {
 public:
  /// Whether all that meet `narrow` meet `wide` as well.
  using Within = bool (*)(std::string_view narrow, std::string_view wide) noexcept;

  /// Everything.
  PatternSet() = default;
  /// What meets one of them; negated: what meets none.
  PatternSet(std::vector<std::string> patterns, bool negated, Within within);
  [[nodiscard]] bool empty() const noexcept { return some_ && some_->empty(); }
  [[nodiscard]] bool covers(const PatternSet& other) const noexcept;
  [[nodiscard]] PatternSet intersected(const PatternSet& other) const;

 private:
  [[nodiscard]] bool is_excluded(std::string_view pattern) const noexcept;
  void drop_excluded();

  Within within_ = nullptr;                         ///< nullptr: of everything
  std::optional<std::vector<std::string>> some_{};  ///< empty: any value, and none
  std::vector<std::string> excluded_{};
};

struct ClientSet {
  PatternSet interfaces;
  std::uint64_t dscp = ~std::uint64_t{0};  ///< a bit for each
  PatternSet hardware;
  RangeSet users = RangeSet::up_to(kNobody);  ///< kNobody: not told
  PatternSet cgroups;
  RangeSet groups = RangeSet::up_to(kNobody);
  PatternSet programs;
  static constexpr Wide kNobody = Wide{1} << 32U;

  [[nodiscard]] bool empty() const noexcept;
  [[nodiscard]] bool covers(const ClientSet& other) const noexcept;
  [[nodiscard]] ClientSet intersected(const ClientSet& other) const;
};

/// Those that meet a condition, or do not.
[[nodiscard]] ClientSet clients_of(const ClientTest& test, bool negated);

}  // namespace limpid
