// Rules are asked one after the other: what is fast is each question (sets answer in logarithmic or constant time), and few people write a thousand rules.
#include "policy/rule_set.h"

#include <algorithm>
#include <utility>

namespace limpid {
namespace {

Truth truth(bool value) noexcept {
  return value ? Truth::yes : Truth::no;
}

struct Evaluation {
  const FlowFacts& facts;
  FactSet* missing;
  Truth unknown(Fact fact) const noexcept {
    if (missing != nullptr) missing->add(fact);
    return Truth::unknown;
  }
  Truth operator()(const ClientTest& test) const noexcept {
    const Fact fact = fact_of(test);
    if (facts.client_facts == nullptr || !facts.client_facts->known.has(fact)) return unknown(fact);
    return truth(is_met(test, *facts.client_facts));
  }
  Truth operator()(const SourceIn& test) const noexcept {
    return truth(test.addresses->contains(to_wide(facts.client.address)));
  }
  Truth operator()(const DestinationIn& test) const noexcept {
    return truth(test.addresses->contains(to_wide(facts.destination.address)));
  }
  Truth operator()(const SourcePortIn& test) const noexcept {
    return truth(test.ports.contains(facts.client.port.value));
  }
  Truth operator()(const DestinationPortIn& test) const noexcept {
    return truth(test.ports.contains(facts.destination.port.value));
  }
  Truth operator()(const TransportIs& test) const noexcept { return truth(test.transport == facts.transport); }
  Truth operator()(const TimeIn& test) const noexcept { return truth(test.minutes.contains(facts.time.value)); }
  Truth operator()(const NameIn& test) const noexcept {
    if (!facts.first_bytes) return unknown(Fact::first_bytes);
    return truth(
        std::ranges::any_of(test.names, [&](const auto& names) { return names->matches(facts.first_bytes->name); }));
  }
  Truth operator()(const ProtocolIn& test) const noexcept {
    if (!facts.first_bytes) return unknown(Fact::first_bytes);
    return truth((test.protocols >> std::to_underlying(facts.first_bytes->protocol) & 1U) != 0);
  }
  Truth operator()(const HasEch& /*test*/) const noexcept {
    return facts.first_bytes ? truth(facts.first_bytes->ech) : unknown(Fact::first_bytes);
  }
};

/// Parts until one says `decisive`; unknown if one of them is.
Truth evaluate_parts(const std::vector<Condition>& parts, const FlowFacts& facts, FactSet* missing,
                     Truth decisive) noexcept {
  Truth result = decisive == Truth::yes ? Truth::no : Truth::yes;
  for (const Condition& part : parts) {
    const Truth one = evaluate(part, facts, missing);
    if (one == decisive) return decisive;
    if (one == Truth::unknown) result = Truth::unknown;
  }
  return result;
}

void add_facts(const Condition& condition, FactSet& facts) noexcept {
  if (condition.test) {
    if (const auto* test = std::get_if<ClientTest>(&*condition.test)) facts.add(fact_of(*test));
    if (std::holds_alternative<NameIn>(*condition.test) || std::holds_alternative<ProtocolIn>(*condition.test) ||
        std::holds_alternative<HasEch>(*condition.test))
      facts.add(Fact::first_bytes);
  }
  for (const Condition& part : condition.parts) add_facts(part, facts);
}

}  // namespace

Truth evaluate(const Condition& condition, const FlowFacts& facts, FactSet* missing) noexcept {
  switch (condition.kind) {
    case Condition::Kind::always: return Truth::yes;
    case Condition::Kind::test: return std::visit(Evaluation{facts, missing}, *condition.test);
    case Condition::Kind::all: return evaluate_parts(condition.parts, facts, missing, Truth::no);
    case Condition::Kind::any: return evaluate_parts(condition.parts, facts, missing, Truth::yes);
    case Condition::Kind::none: {
      const Truth part = evaluate(condition.parts.front(), facts, missing);
      return part == Truth::unknown ? part : truth(part == Truth::no);
    }
  }
  return Truth::no;
}

RuleVerdict RuleSet::decide(const FlowFacts& facts) const noexcept {
  for (std::size_t number = 0; number < rules_.size(); ++number) {
    FactSet missing;
    const Truth met = evaluate(rules_[number].condition, facts, &missing);
    if (met == Truth::no) continue;
    if (met == Truth::unknown) return {.rule = &rules_[number], .number = number, .missing = missing};
    missing = {};
    if (!facts.first_bytes && rules_[number].goes_by_name()) missing.add(Fact::first_bytes);
    return {.rule = &rules_[number], .number = number, .missing = missing};
  }
  return {.rule = nullptr, .number = rules_.size()};
}

FactSet RuleSet::asks_for() const noexcept {
  FactSet facts;
  for (const Rule& rule : rules_) {
    add_facts(rule.condition, facts);
    if (rule.goes_by_name()) facts.add(Fact::first_bytes);
  }
  return facts;
}

}  // namespace limpid
