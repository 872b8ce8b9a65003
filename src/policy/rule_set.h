// RuleSet: rules in order; the first whose condition is met decides. A fact that is not known yet (the name in the first bytes) makes a condition neither true nor
// false: only if a decision depends on it is it asked for. Immutable, shared by all workers; a look-up allocates nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "policy/flow_facts.h"
#include "policy/rule.h"

namespace limpid {

/// Three-valued logic (Kleene).
enum class Truth : std::uint8_t { no, unknown, yes };

/// Whether a flow meets a condition, as far as its facts are known. Where that is unknown, `missing` gets those that it looked for in vain.
[[nodiscard]] Truth evaluate(const Condition& condition, const FlowFacts& facts, FactSet* missing = nullptr) noexcept;

struct RuleVerdict {
  /// The rule that decides; nullptr: none does.
  const Rule* rule = nullptr;
  std::size_t number = 0;  ///< its place, from 0; without a rule: how many there are
  /// Not empty: one of these has to be known first; `rule` is then the first one that may decide. Ask again with more.
  FactSet missing{};
  /// Only what the first bytes say can bring it further: ask again with FlowFacts::first_bytes.
  [[nodiscard]] bool needs_first_bytes() const noexcept {
    return missing.has(Fact::first_bytes) && !needs_client_facts();
  }
  [[nodiscard]] bool needs_client_facts() const noexcept {
    FactSet others = missing;
    others.remove(Fact::first_bytes);
    return !others.empty();
  }
};

class RuleSet {
 public:
  explicit RuleSet(std::vector<Rule> rules) noexcept : rules_(std::move(rules)) {}
  [[nodiscard]] RuleVerdict decide(const FlowFacts& facts) const noexcept;
  [[nodiscard]] std::span<const Rule> rules() const noexcept { return rules_; }
  /// What any rule may want to know.
  [[nodiscard]] FactSet asks_for() const noexcept;
  /// Whether any rule looks at the first bytes.
  [[nodiscard]] bool looks_at_first_bytes() const noexcept { return asks_for().has(Fact::first_bytes); }

 private:
  std::vector<Rule> rules_;
};

}  // namespace limpid
