// Members that are missing count as nothing, those of another type too: an instance may be older or newer than we are.
#include "top/reading.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/terminal_text.h"

namespace limpid::top {
namespace {

using nlohmann::ordered_json;

const ordered_json& member(const ordered_json& json, const char* key) {
  static const ordered_json kNothing;
  if (!json.is_object()) return kNothing;
  const auto found = json.find(key);
  return found == json.end() ? kNothing : *found;
}

std::string text_of(const ordered_json& json, const char* key) {
  const auto& value = member(json, key);
  return value.is_string() ? in_cells(value.get_ref<const std::string&>()) : std::string();
}

std::uint64_t number_of(const ordered_json& json, const char* key) {
  const auto& value = member(json, key);
  return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
}

FlowReading read_flow(const ordered_json& json) {
  FlowReading flow{.id = text_of(json, "id"),
                   .protocol = text_of(json, "protocol"),
                   .state = text_of(json, "state"),
                   .client = text_of(json, "client"),
                   .destination = text_of(json, "original_destination"),
                   .target = text_of(json, "target"),
                   .source = text_of(json, "source"),
                   .app = text_of(json, "app"),
                   .name = text_of(json, "name"),
                   .name_source = text_of(json, "name_source"),
                   .upstream = text_of(json, "upstream"),
                   .rule = std::nullopt,
                   .cut_through = member(json, "cut_through") == true,
                   .bytes_up = number_of(json, "bytes_up"),
                   .bytes_down = number_of(json, "bytes_down"),
                   .age_ms = number_of(json, "age_ms"),
                   .idle_ms = number_of(json, "idle_ms")};
  if (member(json, "rule").is_number_unsigned()) flow.rule = number_of(json, "rule");
  return flow;
}

}  // namespace

std::string in_cells(std::string_view text) {
  const std::string safe = for_terminal(text);
  std::string cells;
  cells.reserve(safe.size());
  for (const char c : safe) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      cells += c;
    } else if (byte >= 0xc0) {
      cells += '?';  // the first byte of a character stands for all of it
    }
  }
  return cells;
}

Result<Reading> read_answers(const ordered_json& status, const ordered_json& counters, const ordered_json& flows,
                             std::chrono::steady_clock::time_point at) {
  const auto& counts = member(counters, "counters");
  const auto& open = member(status, "flows");
  const auto& list = member(flows, "flows");
  if (!counts.is_object() || !open.is_object() || !list.is_array())
    return failure("top", text_of(status, "name"), "its answer makes no sense", "is it another version?");
  Reading reading;
  reading.at = at;
  reading.instance = text_of(status, "name");
  reading.state = text_of(status, "state");
  reading.plan = text_of(member(status, "plan"), "state");
  reading.uptime_ms = number_of(status, "uptime_ms");
  reading.tcp = number_of(open, "tcp");
  reading.udp = number_of(open, "udp");
  reading.tcp_cut = number_of(open, "cut_through");
  reading.udp_cut = number_of(open, "udp_cut_through");
  reading.connections = number_of(counts, "flows_total");
  reading.sessions = number_of(counts, "udp_sessions_total");
  constexpr std::array kRefusals{"refused_direct", "refused_self", "refused_forbidden_target", "refused_limit",
                                 "rejected",       "dropped",      "refused_proxy_header"};
  for (const char* counter : kRefusals) reading.refusals += number_of(counts, counter);
  reading.bytes_up = number_of(counts, "bytes_up");
  reading.bytes_down = number_of(counts, "bytes_down");
  reading.flows.reserve(list.size());
  for (const auto& flow : list) reading.flows.push_back(read_flow(flow));
  const auto& matched = member(flows, "matched");
  reading.all_flows = matched.is_number_unsigned() ? matched.get<std::uint64_t>() <= reading.flows.size()
                                                   : !member(flows, "next").is_string();
  return reading;
}

}  // namespace limpid::top
