// BoxOrder: boxes of rules in their order, asked which rule is the first to cover or to meet another box. Every question looks at all of them, which is cheap (an outline
// each), but not free: how much is looked at in all is bounded. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "policy/rule_boxes.h"

namespace limpid {

class BoxOrder {
 public:
  /// `most_comparisons`: of two outlines, over all questions.
  explicit BoxOrder(std::size_t most_comparisons) noexcept : left_(most_comparisons) {}
  /// Rules in order; a rule may have several.
  void add(RuleBox box, std::size_t rule);
  /// The first rule one of whose boxes covers it. None: there is no such rule, or is_exhausted().
  [[nodiscard]] std::optional<std::size_t> first_covering(const RuleBox& box);
  /// The first rule one of whose boxes has a flow in common with it. None: likewise.
  [[nodiscard]] std::optional<std::size_t> first_meeting(const RuleBox& box);
  /// The last question was one too many, and got no answer.
  [[nodiscard]] bool is_exhausted() const noexcept { return exhausted_; }

 private:
  /// What says in most cases that two boxes have nothing to do with each other.
  struct Outline {
    explicit Outline(const RuleBox& box) noexcept;
    [[nodiscard]] bool may_cover(const Outline& other) const noexcept;
    [[nodiscard]] bool may_meet(const Outline& other) const noexcept;

    WideRange source;
    WideRange destination;
    std::uint16_t first_source_port;
    std::uint16_t last_source_port;
    std::uint16_t first_port;
    std::uint16_t last_port;
    std::uint32_t names;  ///< a bit for each condition, by its fingerprint
    std::uint8_t transports;
  };
  struct Entry {
    RuleBox box;
    std::size_t rule;
  };
  template <class May, class Does>
  [[nodiscard]] std::optional<std::size_t> first(const RuleBox& box, May may, Does does);
  [[nodiscard]] bool pay(std::size_t comparisons) noexcept;

  std::vector<Outline> outlines_;  ///< of each entry
  std::vector<Entry> entries_;
  std::size_t left_;
  bool exhausted_ = false;
};

}  // namespace limpid
