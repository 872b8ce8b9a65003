// Negations go down to the tests (De Morgan), then products are multiplied out.
#include "policy/rule_boxes.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <ranges>
#include <utility>

#include "policy/box_order.h"

namespace limpid {
namespace {

using Boxes = std::vector<RuleBox>;

/// More than this, and the condition is not looked at: multiplying out is exponential.
constexpr std::size_t kMostBoxes = 256;
constexpr Wide kLastMinute = 10079;

struct BoxOfTest {
  bool negated;
  RangeSet either(const RangeSet& set, Wide last) const { return negated ? set.complement(last) : set; }
  RuleBox operator()(const SourceIn& test) const {
    RuleBox box;
    box.source = either(*test.addresses, ~Wide{0});
    return box;
  }
  RuleBox operator()(const DestinationIn& test) const {
    RuleBox box;
    box.destination = either(*test.addresses, ~Wide{0});
    return box;
  }
  RuleBox operator()(const SourcePortIn& test) const {
    RuleBox box;
    box.source_ports = either(test.ports, 65535);
    return box;
  }
  RuleBox operator()(const DestinationPortIn& test) const {
    RuleBox box;
    box.destination_ports = either(test.ports, 65535);
    return box;
  }
  RuleBox operator()(const TransportIs& test) const {
    RuleBox box;
    box.tcp = (test.transport == Transport::tcp) != negated;
    box.udp = !box.tcp;
    return box;
  }
  RuleBox operator()(const TimeIn& test) const {
    RuleBox box;
    box.minutes = either(test.minutes, kLastMinute);
    return box;
  }
  static RuleBox depending_on(Fact fact) {
    RuleBox box;
    box.depends_on.add(fact);
    return box;
  }
  RuleBox operator()(const NameIn& test) const {
    // Each set has a fingerprint; that of several must not depend on their order.
    std::uint64_t names = test.names.size();
    for (const auto& set : test.names) names += set->fingerprint() * 0x9e37'79b9'7f4a'7c15;
    RuleBox box = depending_on(Fact::first_bytes);
    box.names = {{.names = names, .negated = negated}};
    return box;
  }
  RuleBox operator()(const ProtocolIn& test) const {
    RuleBox box = depending_on(Fact::first_bytes);
    box.protocols = negated ? ~test.protocols : test.protocols;
    return box;
  }
  RuleBox operator()(const HasEch& /*test*/) const {
    RuleBox box = depending_on(Fact::first_bytes);
    box.hellos = negated ? RuleBox::kWithoutEch : RuleBox::kWithEch;
    return box;
  }
  RuleBox operator()(const ClientTest& test) const {
    RuleBox box = depending_on(fact_of(test));
    box.clients = std::make_shared<const ClientSet>(clients_of(test, negated));
    return box;
  }
};

std::vector<NameCondition> all_of(const std::vector<NameCondition>& some, const std::vector<NameCondition>& others) {
  std::vector<NameCondition> all;
  std::ranges::set_union(some, others, std::back_inserter(all));
  return all;
}

RuleBox intersection(const RuleBox& one, const RuleBox& other) {
  FactSet depends_on = one.depends_on;
  depends_on.add(other.depends_on);
  RuleBox both{.source = one.source.intersected(other.source),
               .destination = one.destination.intersected(other.destination),
               .source_ports = one.source_ports.intersected(other.source_ports),
               .destination_ports = one.destination_ports.intersected(other.destination_ports),
               .tcp = one.tcp && other.tcp,
               .udp = one.udp && other.udp,
               .minutes = one.minutes.intersected(other.minutes),
               .protocols = one.protocols & other.protocols,
               .hellos = static_cast<std::uint8_t>(one.hellos & other.hellos),
               .names = all_of(one.names, other.names),
               .clients = one.clients ? one.clients : other.clients,
               .depends_on = depends_on};
  if (one.clients && other.clients)
    both.clients = std::make_shared<const ClientSet>(one.clients->intersected(*other.clients));
  return both;
}

/// Of sorted ones: of the same names, the other follows.
bool contradict_each_other(const std::vector<NameCondition>& names) noexcept {
  return std::ranges::adjacent_find(names, {}, &NameCondition::names) != names.end();
}

std::optional<Boxes> boxes(const Condition& condition, bool negated);

std::optional<Boxes> sum(const std::vector<Condition>& parts, bool negated) {
  Boxes all;
  for (const Condition& part : parts) {
    auto some = boxes(part, negated);
    if (!some) return std::nullopt;
    std::ranges::move(*some, std::back_inserter(all));
    if (all.size() > kMostBoxes) return std::nullopt;
  }
  return all;
}

std::optional<Boxes> product(const std::vector<Condition>& parts, bool negated) {
  Boxes all{RuleBox{}};
  for (const Condition& part : parts) {
    const auto factors = boxes(part, negated);
    if (!factors) return std::nullopt;
    Boxes next;
    next.reserve(all.size() * factors->size());
    for (const RuleBox& box : all) {
      for (const RuleBox& factor : *factors) {
        RuleBox both = intersection(box, factor);
        if (!both.empty()) next.push_back(std::move(both));
      }
    }
    if (next.size() > kMostBoxes) return std::nullopt;
    all = std::move(next);
  }
  return all;
}

std::optional<Boxes> boxes(const Condition& condition, bool negated) {
  switch (condition.kind) {
    case Condition::Kind::always: return negated ? Boxes{} : Boxes{RuleBox{}};
    case Condition::Kind::test: {
      RuleBox box = std::visit(BoxOfTest{negated}, *condition.test);
      if (box.empty()) return Boxes{};
      return Boxes{std::move(box)};
    }
    case Condition::Kind::all: return negated ? sum(condition.parts, true) : product(condition.parts, false);
    case Condition::Kind::any: return negated ? product(condition.parts, true) : sum(condition.parts, false);
    case Condition::Kind::none: return boxes(condition.parts.front(), !negated);
  }
  return std::nullopt;
}

}  // namespace

bool RuleBox::empty() const noexcept {
  return source.empty() || destination.empty() || source_ports.empty() || destination_ports.empty() || (!tcp && !udp) ||
         minutes.empty() || protocols == 0 || hellos == 0 || (clients && clients->empty()) ||
         contradict_each_other(names);
}

bool RuleBox::covers(const RuleBox& other) const noexcept {
  return (tcp || !other.tcp) && (udp || !other.udp) && (other.protocols & ~protocols) == 0 &&
         (other.hellos & ~unsigned{hellos}) == 0 && std::ranges::includes(other.names, names) &&
         source_ports.covers(other.source_ports) && destination_ports.covers(other.destination_ports) &&
         minutes.covers(other.minutes) && source.covers(other.source) && destination.covers(other.destination) &&
         (!clients || clients->covers(other.clients ? *other.clients : ClientSet{}));
}

bool RuleBox::meets(const RuleBox& other) const {
  if (!(tcp && other.tcp) && !(udp && other.udp)) return false;
  if ((protocols & other.protocols) == 0 || (hellos & other.hellos) == 0) return false;
  if (!source_ports.meets(other.source_ports) || !destination_ports.meets(other.destination_ports) ||
      !minutes.meets(other.minutes) || !source.meets(other.source) || !destination.meets(other.destination))
    return false;
  if (!names.empty() && !other.names.empty() && contradict_each_other(all_of(names, other.names))) return false;
  return !clients || !other.clients || !clients->intersected(*other.clients).empty();
}

std::optional<std::vector<RuleBox>> boxes_of(const Condition& condition) {
  return boxes(condition, false);
}

namespace {

class FlawFinder {
 public:
  FlawFinder(const std::vector<Rule>& rules, std::span<const std::size_t> numbers, std::size_t most_comparisons)
      : rules_(rules), numbers_(numbers), taken_(most_comparisons) {}

  std::vector<RuleFlaw> find() {
    for (std::size_t rule = 0; rule < rules_.size(); ++rule) look_at(rule);
    if (!ends_ && !rules_.empty()) {
      flaws_.push_back({.rule = rules_.size() - 1,
                        .never_matches = false,
                        .cause = "no rule says what happens to the rest, which is relayed directly",
                        .remedy = "end the list with \"otherwise -> direct\""});
    }
    return std::move(flaws_);
  }

 private:
  void look_at(std::size_t rule) {
    auto own = boxes_of(rules_[rule].condition);
    if (!own) return;  // too much to compare; it may match
    if (own->empty()) {
      flaws_.push_back({.rule = rule,
                        .never_matches = true,
                        .cause = "its conditions contradict each other",
                        .remedy = "|| means one or the other, && both at once"});
      return;
    }
    const bool was_exhausted = taken_.is_exhausted();
    if (!was_exhausted && is_taken(rule, *own)) return;
    if (!was_exhausted && taken_.is_exhausted()) {
      flaws_.push_back(
          {.rule = rule,
           .never_matches = false,
           .cause = fmt::format("the rules from {} on are too many to be compared with all before them", number(rule)),
           .remedy = "some of them may never match; put networks and names into sets"});
    }
    if (std::ranges::any_of(*own, [](const RuleBox& box) { return box.covers(RuleBox{}); })) ends_ = true;
    for (RuleBox& box : *own) taken_.add(std::move(box), rule);
  }

  /// By those before it, and says so.
  bool is_taken(std::size_t rule, const Boxes& own) {
    std::vector<std::size_t> by;
    for (const RuleBox& box : own) {
      const auto first = taken_.first_covering(box);
      if (!first) return false;
      by.push_back(*first);
    }
    std::ranges::sort(by);
    const auto same = std::ranges::unique(by);
    by.erase(same.begin(), same.end());
    const auto in_words = by | std::views::transform([this](std::size_t one) { return number(one); });
    flaws_.push_back({.rule = rule,
                      .never_matches = true,
                      .cause = by.size() == 1 ? fmt::format("rule {} (\"{}\") takes all that it would match",
                                                            number(by.front()), rules_[by.front()].text)
                                              : fmt::format("rules {} together take all that it would match",
                                                            fmt::join(in_words, ", ")),
                      .remedy = fmt::format("put it before rule {}, or leave it out", number(by.front()))});
    return true;
  }

  [[nodiscard]] std::size_t number(std::size_t rule) const { return numbers_.empty() ? rule + 1 : numbers_[rule]; }

  const std::vector<Rule>& rules_;
  std::span<const std::size_t> numbers_;
  BoxOrder taken_;
  bool ends_ = false;
  std::vector<RuleFlaw> flaws_;
};

}  // namespace

std::vector<RuleFlaw> find_flaws(const std::vector<Rule>& rules, std::span<const std::size_t> numbers,
                                 std::size_t most_comparisons) {
  return FlawFinder(rules, numbers, most_comparisons).find();
}

}  // namespace limpid
