// Equal rows keep an order of their own, by key, so that nothing dances when nothing happens.
#include "top/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <utility>

#include "base/ascii.h"

namespace limpid::top {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kSorts{
    {{"rate", "-idle"}, {"bytes", "bytes"}, {"age", "age"}, {"client", "id"}, {"destination", "id"}}};
constexpr std::array<std::string_view, 6> kGroups{"none", "client", "destination", "name", "rule", "upstream"};

bool contains(std::string_view text, std::string_view sought) {
  return !std::ranges::search(text, sought, [](char one, char other) {
            return ascii_lower(one) == ascii_lower(other);
          }).empty();
}

/// "192.0.2.2" of "192.0.2.2:50000", "2001:db8::1" of "[2001:db8::1]:80".
std::string_view without_port(std::string_view address) {
  address = address.substr(0, address.rfind(':'));
  if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  return address;
}

double rate_of(const Row& row) {
  return row.rated.up + row.rated.down;
}

std::uint64_t bytes_of(const Row& row) {
  return row.rated.flow.bytes_up + row.rated.flow.bytes_down;
}

bool before(const Row& one, const Row& other, Sort sort) {
  switch (sort) {
    case Sort::rate:
      if (rate_of(one) != rate_of(other)) return rate_of(one) > rate_of(other);
      if (bytes_of(one) != bytes_of(other)) return bytes_of(one) > bytes_of(other);
      break;
    case Sort::bytes:
      if (bytes_of(one) != bytes_of(other)) return bytes_of(one) > bytes_of(other);
      break;
    case Sort::age:
      if (one.rated.flow.age_ms != other.rated.flow.age_ms) return one.rated.flow.age_ms > other.rated.flow.age_ms;
      break;
    case Sort::client:
      if (one.rated.flow.client != other.rated.flow.client) return one.rated.flow.client < other.rated.flow.client;
      break;
    case Sort::destination:
      if (one.rated.flow.destination != other.rated.flow.destination)
        return one.rated.flow.destination < other.rated.flow.destination;
      break;
  }
  return one.key < other.key;
}

void add(Row& sum, const RatedFlow& rated) {
  ++sum.flows;
  sum.rated.up += rated.up;
  sum.rated.down += rated.down;
  sum.rated.known = sum.rated.known || rated.known;
  sum.rated.flow.bytes_up += rated.flow.bytes_up;
  sum.rated.flow.bytes_down += rated.flow.bytes_down;
  sum.rated.flow.age_ms = std::max(sum.rated.flow.age_ms, rated.flow.age_ms);
}

}  // namespace

std::string_view to_string(Sort sort) noexcept {
  return kSorts.at(static_cast<std::size_t>(sort)).first;
}

std::string_view to_string(Group group) noexcept {
  return kGroups.at(static_cast<std::size_t>(group));
}

std::optional<Sort> parse_sort(std::string_view text) noexcept {
  for (std::size_t i = 0; i < kSorts.size(); ++i)
    if (kSorts.at(i).first == text) return static_cast<Sort>(i);
  return std::nullopt;
}

std::optional<Group> parse_group(std::string_view text) noexcept {
  for (std::size_t i = 0; i < kGroups.size(); ++i)
    if (kGroups.at(i) == text) return static_cast<Group>(i);
  return std::nullopt;
}

std::string_view order_asked_for(Sort sort) noexcept {
  return kSorts.at(static_cast<std::size_t>(sort)).second;
}

std::string group_key(const FlowReading& flow, Group group) {
  const auto or_none = [](const std::string& text) { return text.empty() ? std::string("-") : text; };
  switch (group) {
    case Group::none: return flow.id;
    case Group::client: return std::string(without_port(flow.client));
    case Group::destination: return or_none(flow.destination);
    case Group::name: return or_none(flow.name);
    case Group::rule: return flow.rule ? fmt::format("rule {}", *flow.rule) : std::string("-");
    case Group::upstream: return or_none(flow.upstream);
  }
  return {};
}

bool matches(const FlowReading& flow, std::string_view filter) {
  if (filter.empty()) return true;
  for (const std::string* text : {&flow.id, &flow.protocol, &flow.state, &flow.client, &flow.destination, &flow.target,
                                  &flow.app, &flow.name, &flow.upstream}) {
    if (contains(*text, filter)) return true;
  }
  return flow.rule && contains(fmt::format("rule {}", *flow.rule), filter);
}

std::vector<Row> table_rows(const std::vector<RatedFlow>& flows, const Choice& choice) {
  std::vector<Row> rows;
  std::map<std::string, std::size_t> groups;  // key → place in rows
  for (const auto& rated : flows) {
    if (!matches(rated.flow, choice.filter)) continue;
    if (choice.within != Group::none && group_key(rated.flow, choice.within) != choice.within_key) continue;
    const std::string key = group_key(rated.flow, choice.group);
    if (choice.group == Group::none) {
      rows.push_back({.key = key, .rated = rated});
    } else if (const auto [found, is_new] = groups.try_emplace(key, rows.size()); is_new) {
      rows.push_back({.key = key, .rated = rated});
    } else {
      add(rows[found->second], rated);
    }
  }
  std::ranges::sort(rows, [&](const Row& one, const Row& other) { return before(one, other, choice.sort); });
  return rows;
}

}  // namespace limpid::top
