// Which flows the table shows, in which order, and what they are together when they are grouped. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "top/rates.h"

namespace limpid::top {

enum class Sort : std::uint8_t { rate, bytes, age, client, destination };
enum class Group : std::uint8_t { none, client, destination, name, rule, upstream };

[[nodiscard]] std::string_view to_string(Sort sort) noexcept;
[[nodiscard]] std::string_view to_string(Group group) noexcept;
[[nodiscard]] std::optional<Sort> parse_sort(std::string_view text) noexcept;
[[nodiscard]] std::optional<Group> parse_group(std::string_view text) noexcept;
/// The order that the instance is asked for: the flows that matter, where there are more than it is asked for.
[[nodiscard]] std::string_view order_asked_for(Sort sort) noexcept;

/// What is chosen to be seen.
struct Choice {
  Sort sort = Sort::rate;
  Group group = Group::none;
  std::string filter;  ///< somewhere in a flow's addresses, names, state or protocol; upper and lower case are the same
  /// Only the flows of one group, once the user has gone into it.
  Group within = Group::none;
  std::string within_key;
};

/// A flow, or a group of them.
struct Row {
  std::string key;  ///< the flow's id, or what the group has in common
  RatedFlow rated;  ///< of a group: sums, and the age of its oldest
  std::size_t flows = 1;
};

[[nodiscard]] std::string group_key(const FlowReading& flow, Group group);
[[nodiscard]] bool matches(const FlowReading& flow, std::string_view filter);
[[nodiscard]] std::vector<Row> table_rows(const std::vector<RatedFlow>& flows, const Choice& choice);

}  // namespace limpid::top
