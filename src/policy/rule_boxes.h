// A condition as boxes: what it says about each fact, as a union of products of sets. With them rules can be compared (can this one ever match?) and, as far as addresses, ports
// and transport go, handed to the kernel. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "policy/client_set.h"
#include "policy/rule.h"

namespace limpid {

/// A condition about the name that first bytes tell: names are not compared one by one, only for being the same ones.
struct NameCondition {
  std::uint64_t names = 0;  ///< fingerprint
  bool negated = false;
  auto operator<=>(const NameCondition&) const = default;
};

/// All flows with each fact in its set.
struct RuleBox {
  RangeSet source = RangeSet::all_addresses();
  RangeSet destination = RangeSet::all_addresses();
  RangeSet source_ports = RangeSet::all_ports();
  RangeSet destination_ports = RangeSet::all_ports();
  bool tcp = true;
  bool udp = true;
  RangeSet minutes = RangeSet::up_to(10079);    ///< of the week
  std::uint32_t protocols = ~std::uint32_t{0};  ///< a bit for each AppProtocol
  std::uint8_t hellos = kAnyHello;              ///< with ECH, without
  std::vector<NameCondition> names{};           ///< all of them; sorted
  std::shared_ptr<const ClientSet> clients{};   ///< nullptr: everybody
  FactSet depends_on{};                         ///< what has to be learnt for some of these
  static constexpr std::uint8_t kWithEch = 1;
  static constexpr std::uint8_t kWithoutEch = 2;
  static constexpr std::uint8_t kAnyHello = kWithEch | kWithoutEch;
  [[nodiscard]] bool empty() const noexcept;
  /// Whether every flow in `other` is in this.
  [[nodiscard]] bool covers(const RuleBox& other) const noexcept;
  [[nodiscard]] bool meets(const RuleBox& other) const;
};

/// Boxes that together are the condition; none: it can never be met. std::nullopt: it has too many.
[[nodiscard]] std::optional<std::vector<RuleBox>> boxes_of(const Condition& condition);

struct RuleFlaw {
  std::size_t rule = 0;        ///< its place, from 0
  bool never_matches = false;  ///< else: it is only suspicious
  std::string cause;
  std::string remedy;
};

/// How many comparisons of two boxes find_flaws() makes at most: about a second. 14,000 rules are compared with each other.
inline constexpr std::size_t kMostComparisons = 100'000'000;

/// Rules that can never match: their condition contradicts itself, or those before them take everything. And a list without an end: what happens to the rest is then said; and
/// one that is so long that not all of it is compared. `numbers`: what messages call each rule; empty: by its place, from 1.
[[nodiscard]] std::vector<RuleFlaw> find_flaws(const std::vector<Rule>& rules,
                                               std::span<const std::size_t> numbers = {},
                                               std::size_t most_comparisons = kMostComparisons);

}  // namespace limpid
