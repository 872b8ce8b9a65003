// Names of arguments and of members are the schema of docs/control.md: they stay.
#include "service/flow_parameters.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/ascii.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 12> kStates{"introducing", "deciding",    "resolving",   "ignoring",
                                                   "connecting",  "handshaking", "relaying",    "lingering",
                                                   "leaving",     "unanswered",  "cut_through", ""};

Result<std::uint64_t> number(std::string_view key, std::string_view text, std::uint64_t least, std::uint64_t most) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
    return usage_error(key, text, "not a number in range", std::to_string(least) + " to " + std::to_string(most));
  return value;
}

Result<bool> yes_or_no(std::string_view key, std::string_view text) {
  if (text == "true" || text == "yes") return true;
  if (text == "false" || text == "no") return false;
  return usage_error(key, text, "neither true nor false");
}

Status parse_order(std::string_view text, FlowQuery& query) {
  const std::string_view whole = text;
  if (text.starts_with('-')) {
    query.reversed = true;
    text.remove_prefix(1);
  }
  if (text == "bytes") {
    query.order = FlowOrder::bytes;
  } else if (text == "age") {
    query.order = FlowOrder::age;
  } else if (text == "idle") {
    query.order = FlowOrder::idle;
  } else if (text == "id" && !query.reversed) {
    query.order = FlowOrder::name;
  } else {
    return usage_error("sort", whole, "no such order", "id, bytes, age, idle, or -bytes, -age, -idle");
  }
  return {};
}

Status parse_pattern(std::string_view key, std::string_view text, std::optional<AddressPattern>& pattern) {
  auto parsed = AddressPattern::parse(text);
  if (!parsed) {
    Error error = std::move(parsed.error());
    error.operation = key;
    return std::unexpected(std::move(error));
  }
  pattern = *parsed;
  return {};
}

Status parse_argument(const std::string& key, const std::string& value, FlowQuery& query) {
  FlowFilter& filter = query.filter;
  if (key == "client") return parse_pattern(key, value, filter.client);
  if (key == "target") return parse_pattern(key, value, filter.target);
  if (key == "original_destination") return parse_pattern(key, value, filter.original_destination);
  if (key == "sort") return parse_order(value, query);
  if (key == "name") {
    filter.name = ascii_lower(value);
    return {};
  }
  if (key == "upstream") {
    filter.upstream = value;
    return {};
  }
  if (key == "protocol") {
    if (value != "tcp" && value != "udp") return usage_error(key, value, "no such protocol", "tcp or udp");
    filter.protocol = value == "tcp" ? Protocol::tcp : Protocol::udp;
    return {};
  }
  if (key == "state") {
    if (std::ranges::find(kStates, value) == kStates.end())
      return usage_error(key, value, "no such state", "relaying, connecting, ...: see docs/control.md");
    filter.state = value;
    return {};
  }
  if (key == "cut_through") {
    const auto wanted = yes_or_no(key, value);
    if (!wanted) return std::unexpected(wanted.error());
    filter.cut_through = *wanted;
    return {};
  }
  if (key == "after") {
    auto after = FlowName::parse(value);
    if (!after) return std::unexpected(after.error());
    query.after = *after;
    return {};
  }
  if (key == "rule" || key == "limit" || key == "offset") {
    const bool rule = key == "rule";
    const auto parsed = rule             ? number(key, value, 0, 1'000'000)
                        : key == "limit" ? number(key, value, 1, FlowQuery::kMostOnPage)
                                         : number(key, value, 0, FlowQuery::kLargestOffset);
    if (!parsed) return std::unexpected(parsed.error());
    if (rule) {
      filter.rule = static_cast<std::uint32_t>(*parsed);
    } else {
      (key == "limit" ? query.limit : query.offset) = *parsed;
    }
    return {};
  }
  return usage_error("flows", key, "no such argument", "see docs/control.md");
}

ordered_json or_null(bool there, auto value) {
  return there ? ordered_json(std::move(value)) : ordered_json();
}

std::string name_source(const Ruling& ruling) {
  return std::string(to_string(ruling.has_hint() ? NameSource::dns_hint : NameSource::first_bytes));
}

ordered_json as_json(const FlowView& view) {
  const bool dialled = view.target.port.value != 0;
  const Ruling& ruling = view.ruling;
  return {{"id", view.name.to_string()},
          {"protocol", to_string(view.protocol)},
          {"state", view.state},
          {"cut_through", view.cut_through},
          {"client", view.client.to_string()},
          {"original_destination", view.original_destination.to_string()},
          {"target", or_null(dialled, view.target.to_string())},
          {"source", or_null(dialled, std::string(to_string(view.source)))},
          {"rule", or_null(ruling.asked, ruling.rule)},
          {"app", or_null(ruling.sniffed, std::string(to_string(ruling.protocol)))},
          {"name", or_null(!ruling.name().empty(), std::string(ruling.name()))},
          {"name_source", or_null(!ruling.name().empty(), name_source(ruling))},
          {"upstream", or_null(!view.upstream.empty(), std::string(view.upstream))},
          {"bytes_up", view.bytes_up},
          {"bytes_down", view.bytes_down},
          {"age_ms", view.age_ms},
          {"idle_ms", view.idle_ms}};
}

ordered_json as_json(const LegAddresses& leg) {
  const auto text = [](const SocketAddress& address) { return or_null(address.port.value != 0, address.to_string()); };
  return {{"local", text(leg.local)}, {"remote", text(leg.remote)}};
}

}  // namespace

Result<FlowQuery> parse_flow_query(const std::map<std::string, std::string, std::less<>>& arguments) {
  FlowQuery query;
  for (const auto& [key, value] : arguments) {
    if (auto parsed = parse_argument(key, value, query); !parsed) return std::unexpected(parsed.error());
  }
  if (query.after && query.order != FlowOrder::name)
    return usage_error("after", "", "it goes with sort=id only", "use offset with another order");
  if (query.after && query.offset != 0) return usage_error("after", "", "it does not go with offset");
  return query;
}

std::string to_json(const FlowPage& page, const FlowQuery& query) {
  ordered_json flows = ordered_json::array();
  for (const FlowView& view : page.flows) flows.push_back(as_json(view));
  const ordered_json json = {{"schema", 1},
                             {"flows", flows},
                             {"limit", query.limit},
                             {"offset", query.offset},
                             {"matched", page.matched ? ordered_json(*page.matched) : ordered_json()},
                             {"next", page.next ? ordered_json(page.next->to_string()) : ordered_json()}};
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string to_json(const FlowView& view) {
  ordered_json flow = as_json(view);
  const bool known = view.legs.has_value();
  flow["legs"] = {{"client", known ? as_json(view.legs->client) : ordered_json()},
                  {"target", known && view.legs->target ? as_json(*view.legs->target) : ordered_json()}};
  return ordered_json({{"schema", 1}, {"flow", flow}}).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace limpid
