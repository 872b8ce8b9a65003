// CurrentRules: the rules that are at work, shared by all workers and replaced whole by a reload; with them, how many flows each has decided.
// A worker looks through a RuleReader of its own, which costs one atomic load for a flow as long as nothing is replaced.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "policy/rule_set.h"

namespace limpid {

/// One list of rules and its counters. Immutable but for these.
class RulesAtWork {
 public:
  /// Rules with the text of one of `before` share its count, so that what a worker counts on the old list while it is replaced is not lost.
  explicit RulesAtWork(std::vector<Rule> rules, const RulesAtWork* before = nullptr);
  [[nodiscard]] const RuleSet& set() const noexcept { return set_; }
  /// Rule `number` (from 0) has decided a flow.
  void count(std::size_t number) const noexcept { hits_[number]->fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t hits(std::size_t number) const noexcept {
    return hits_[number]->load(std::memory_order_relaxed);
  }
  /// No rule has decided a flow.
  void count_unmatched() const noexcept { unmatched_->fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t unmatched() const noexcept { return unmatched_->load(std::memory_order_relaxed); }
  [[nodiscard]] bool looks_at_time() const noexcept { return looks_at_time_; }
  [[nodiscard]] FactSet asks_for() const noexcept { return asks_for_; }

 private:
  RuleSet set_;
  std::vector<std::shared_ptr<std::atomic<std::uint64_t>>> hits_;  ///< one for each rule
  std::shared_ptr<std::atomic<std::uint64_t>> unmatched_;          ///< of this list and those before it
  bool looks_at_time_ = false;
  FactSet asks_for_;
};

class CurrentRules {
 public:
  explicit CurrentRules(std::vector<Rule> rules) : current_(std::make_shared<const RulesAtWork>(std::move(rules))) {}
  [[nodiscard]] std::shared_ptr<const RulesAtWork> current() const;
  /// From now on flows that begin are decided by these.
  void replace(std::vector<Rule> rules);
  /// Changes with every replacement.
  [[nodiscard]] std::uint64_t edition() const noexcept { return edition_.load(std::memory_order_acquire); }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const RulesAtWork> current_;
  std::atomic<std::uint64_t> edition_{1};
};

/// One thread's view of a book.
class RuleReader {
 public:
  /// nullptr: there are no rules, ever.
  explicit RuleReader(std::shared_ptr<const CurrentRules> book) noexcept : book_(std::move(book)) {}
  /// What is at work now, valid until the next call; nullptr where there is no rule.
  [[nodiscard]] const RulesAtWork* rules();

 private:
  std::shared_ptr<const CurrentRules> book_;
  std::shared_ptr<const RulesAtWork> seen_;
  std::uint64_t edition_ = 0;
};

}  // namespace limpid
