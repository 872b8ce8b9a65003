// The swap: a pointer under a mutex, and an edition that tells readers when to take it.
#include "policy/current_rules.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace limpid {
namespace {

bool has_time(const Condition& condition) noexcept {
  if (condition.test) return std::holds_alternative<TimeIn>(*condition.test);
  return std::ranges::any_of(condition.parts, has_time);
}

}  // namespace

RulesAtWork::RulesAtWork(std::vector<Rule> rules, const RulesAtWork* before)
    : set_(std::move(rules)),
      unmatched_(before != nullptr ? before->unmatched_ : std::make_shared<std::atomic<std::uint64_t>>(0)),
      looks_at_time_(std::ranges::any_of(set_.rules(), has_time, &Rule::condition)),
      asks_for_(set_.asks_for()) {
  std::unordered_map<std::string_view, std::size_t> known;
  for (std::size_t i = 0; before != nullptr && i < before->hits_.size(); ++i)
    known.emplace(before->set().rules()[i].text, i);
  for (const Rule& rule : set_.rules()) {
    const auto found = known.find(rule.text);
    hits_.push_back(found != known.end() ? before->hits_[found->second]
                                         : std::make_shared<std::atomic<std::uint64_t>>(0));
  }
}

std::shared_ptr<const RulesAtWork> CurrentRules::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

void CurrentRules::replace(std::vector<Rule> rules) {
  auto next = std::make_shared<const RulesAtWork>(std::move(rules), current().get());
  {
    const std::lock_guard lock(mutex_);
    current_.swap(next);
  }
  edition_.fetch_add(1, std::memory_order_release);
}

const RulesAtWork* RuleReader::rules() {
  if (!book_) return nullptr;
  if (const auto edition = book_->edition(); edition != edition_) {
    edition_ = edition;
    seen_ = book_->current();
  }
  return seen_->set().rules().empty() ? nullptr : seen_.get();
}

}  // namespace limpid
