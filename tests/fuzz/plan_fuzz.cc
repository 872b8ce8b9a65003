// From what a user may type to the text that nft reads: whatever the names are, the text changes our own tables only.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "intercept/local_traffic.h"
#include "intercept/plan.h"
#include "intercept/survey.h"
#include "net/interface_name.h"
#include "tests/fuzz/property.h"

namespace {

using limpid::fuzz::check;

/// nft's input without what stands in quotes. A quoted string ends at the next quote or, which is an error in nft, at the end of its line.
std::string without_quoted(std::string_view text) {
  std::string rest;
  bool quoted = false;
  for (const char c : text) {
    check(!quoted || c != '\n', "no quoted string holds the end of a line");
    if (c == '"') quoted = !quoted;
    if (!quoted) rest += c;
  }
  check(!quoted, "every quoted string ends");
  return rest;
}

/// What stands outside of every table may only name our own.
void check_statements(const limpid::Plan& plan, std::string_view text) {
  const auto is_ours = [&](std::string_view statement) {
    for (const limpid::NftTableName& table : limpid::tables_of(plan)) {
      const std::string name = table.to_string();
      if (statement == "table " + name || statement == "delete table " + name || statement == "table " + name + " {")
        return true;
    }
    return false;
  };
  int depth = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (depth == 0) check(line.empty() || is_ours(line), "every statement is about a table of ours");
    for (const char c : line) {
      if (c == '{') ++depth;
      if (c == '}') --depth;
    }
    check(depth >= 0, "no brace closes what none has opened");
  }
  check(depth == 0, "every brace is closed");
}

std::vector<limpid::IdRange> ids(FuzzedDataProvider& bytes) {
  std::vector<limpid::IdRange> ranges;
  for (auto count = bytes.ConsumeIntegralInRange(0, 2); count > 0; --count) {
    const auto first = bytes.ConsumeIntegral<std::uint32_t>();
    ranges.push_back({first, bytes.ConsumeIntegralInRange(first, UINT32_MAX)});
  }
  return ranges;
}

void add_prefixes(FuzzedDataProvider& bytes, std::vector<limpid::Prefix>& prefixes) {
  for (auto count = bytes.ConsumeIntegralInRange(0, 3); count > 0; --count) {
    if (auto prefix = limpid::Prefix::parse(bytes.ConsumeRandomLengthString(50))) prefixes.push_back(*prefix);
  }
}

limpid::InterceptionOptions options_of(FuzzedDataProvider& bytes) {
  limpid::InterceptionOptions options;
  options.name = bytes.ConsumeBool() ? "limpid" : bytes.ConsumeRandomLengthString(20);
  options.listener = limpid::Port{bytes.ConsumeIntegral<std::uint16_t>()};
  options.fail = bytes.ConsumeBool() ? limpid::FailMode::closed : limpid::FailMode::open;
  options.keeps_source_port = bytes.ConsumeBool();
  options.keeps_udp_port = bytes.ConsumeBool();
  auto& scope = options.scope;
  if (auto ports = limpid::PortSet::parse(bytes.ConsumeRandomLengthString(30))) scope.tcp = *ports;
  if (auto ports = limpid::PortSet::parse(bytes.ConsumeRandomLengthString(30))) scope.udp = *ports;
  scope.forwarded = bytes.ConsumeBool();
  for (auto count = bytes.ConsumeIntegralInRange(0, 2); count > 0; --count)
    scope.from_interfaces.push_back(bytes.ConsumeRandomLengthString(20));
  add_prefixes(bytes, scope.from_prefixes);
  add_prefixes(bytes, scope.to_prefixes);
  add_prefixes(bytes, scope.excluded);
  if (bytes.ConsumeBool()) {
    scope.local = limpid::LocalScope{};
    for (limpid::Programs* programs : {&scope.local->only, &scope.local->never}) {
      programs->users = ids(bytes);
      programs->groups = ids(bytes);
      if (bytes.ConsumeBool()) programs->cgroups.push_back(bytes.ConsumeRandomLengthString(40));
    }
  }
  options.needs_conntrack = bytes.ConsumeBool();
  options.guards_listener = bytes.ConsumeBool();
  return options;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider bytes(data, size);
  const limpid::InterceptionOptions options = options_of(bytes);
  const auto inputs = limpid::prepare_inputs({}, options, limpid::Keeper::permanent, bytes.ConsumeBool());
  if (!inputs) return 0;
  const limpid::Plan plan = limpid::make_plan(*inputs);
  const std::string text = without_quoted(limpid::render_nft_replacement(plan));
  check_statements(plan, text);
  for (auto at = text.find(';'); at != std::string::npos; at = text.find(';', at + 1)) {
    const std::string_view before = std::string_view(text).substr(0, at);
    check(before.ends_with("policy accept") || before.substr(before.rfind('\n') + 1).starts_with("    type "),
          "a rule is a line");
  }
  return 0;
}
