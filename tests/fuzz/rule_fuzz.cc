// parse_rule: what is refused names its column; what is accepted decides about any flow, the same way twice, and first bytes only ever make "unknown" certain.
#include <cstdint>
#include <memory>
#include <string>

#include "policy/rule.h"
#include "policy/rule_boxes.h"
#include "policy/rule_set.h"
#include "tests/fuzz/property.h"

namespace {

limpid::NamedSets make_sets() {
  limpid::NamedSets sets;
  sets.places = [](limpid::PlaceKind, const std::string&) -> limpid::Result<std::shared_ptr<const limpid::RangeSet>> {
    return std::make_shared<const limpid::RangeSet>(limpid::RangeSet::up_to(1000));
  };
  sets.addresses["lan"] = std::make_shared<const limpid::RangeSet>(limpid::RangeSet::up_to(1000));
  return sets;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const limpid::NamedSets sets = make_sets();
  const auto rule = limpid::parse_rule(limpid::fuzz::as_text(data, size), sets);
  if (!rule) {
    limpid::fuzz::check_user_error(rule.error());
    limpid::fuzz::check(rule.error().cause.starts_with("column "), "the column is named");
    return 0;
  }
  limpid::FlowFacts facts{.transport = limpid::Transport::tcp,
                          .client = *limpid::SocketAddress::parse("192.168.7.2:40000"),
                          .destination = *limpid::SocketAddress::parse("198.51.100.2:443"),
                          .time = {600},
                          .first_bytes = {},
                          .client_facts = nullptr};
  limpid::FactSet missing;
  limpid::ClientFacts client{
      .known = {0xff}, .interface = "lan", .mac = {}, .user = 1000, .cgroup = "/a/b", .process = {}};
  if (evaluate(rule->condition, facts, &missing) == limpid::Truth::unknown)
    limpid::fuzz::check(!missing.empty(), "what is unknown has a name");
  const auto unasked = evaluate(rule->condition, facts);
  facts.client_facts = &client;
  limpid::fuzz::check(unasked == limpid::Truth::unknown || unasked == evaluate(rule->condition, facts),
                      "what was known stays");
  const auto before = evaluate(rule->condition, facts);
  const auto boxes = boxes_of(rule->condition);
  for (const std::string_view name : {"", "example.com", "a.b.c"}) {
    facts.first_bytes = limpid::FirstBytes{.protocol = limpid::AppProtocol::tls, .name = name, .ech = name.empty()};
    const auto after = evaluate(rule->condition, facts);
    limpid::fuzz::check(after != limpid::Truth::unknown, "with first bytes everything is known");
    limpid::fuzz::check(before == limpid::Truth::unknown || after == before, "what was known stays");
    limpid::fuzz::check(after != limpid::Truth::yes || !boxes || !boxes->empty(), "what can be met has a box");
  }
  const auto again = limpid::parse_rule(rule->text, sets);
  limpid::fuzz::check(again && again->text == rule->text, "a rule's text is a rule");
  return 0;
}
