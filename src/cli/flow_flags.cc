// The instance checks what was typed: it alone knows its states and upstreams.
#include "cli/flow_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/terminal_text.h"
#include "control/http_client.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr int kPage = 500;

std::string shown(const ordered_json& flow, const char* key) {
  if (!flow.is_object() || !flow.contains(key) || flow[key].is_null()) return "-";
  return flow[key].is_string() ? for_terminal(flow[key].get<std::string>()) : flow[key].dump();
}

std::uint64_t amount(const ordered_json& flow, const char* key) {
  return flow.is_object() && flow.contains(key) && flow[key].is_number_unsigned() ? flow[key].get<std::uint64_t>() : 0;
}

}  // namespace

bool FlowFlags::empty() const noexcept {
  return client.empty() && target.empty() && original_destination.empty() && name.empty() && rule.empty() &&
         upstream.empty() && protocol.empty() && state.empty() && cut_through.empty();
}

void add_flow_flags(CLI::App& verb, FlowFlags& flags) {
  constexpr auto kHeading = "Which flows";
  const auto add = [&](const char* name, std::string& value, const char* type, const char* help) {
    verb.add_option(name, value, help)->type_name(type)->group(kHeading);
  };
  add("--client", flags.client, "ADDRESS|NETWORK|:PORT", "Of this client: 192.0.2.0/24, 192.0.2.2:5000, :5000");
  add("--target", flags.target, "ADDRESS|NETWORK|:PORT", "Dialled to there");
  add("--original-destination", flags.original_destination, "ADDRESS|NETWORK|:PORT", "That the client dialled");
  add("--host", flags.name, "DOMAIN", "With this name, or one below it");
  add("--rule", flags.rule, "N", "That rule N decided; 0: none");
  add("--upstream", flags.upstream, "NAME", "Through this upstream");
  add("--protocol", flags.protocol, "tcp|udp", "Connections, or UDP sessions");
  add("--state", flags.state, "STATE", "connecting, relaying, ...");
  add("--cut-through", flags.cut_through, "yes|no", "Forwarded past the relay, or not");
}

std::string as_arguments(const FlowFlags& flags) {
  std::string arguments;
  for (const auto& [key, value] : {std::tuple{"client", &flags.client}, std::tuple{"target", &flags.target},
                                   std::tuple{"original_destination", &flags.original_destination},
                                   std::tuple{"name", &flags.name}, std::tuple{"rule", &flags.rule},
                                   std::tuple{"upstream", &flags.upstream}, std::tuple{"protocol", &flags.protocol},
                                   std::tuple{"state", &flags.state}, std::tuple{"cut_through", &flags.cut_through}}) {
    if (value->empty()) continue;
    if (!arguments.empty()) arguments += '&';
    arguments += fmt::format("{}={}", key, percent_encode(*value));
  }
  return arguments;
}

Status for_each_flow(const ControlFlags& instance, const FlowFlags& flags,
                     const std::function<bool(const ordered_json&)>& use) {
  const std::string filter = as_arguments(flags);
  std::string after;
  for (;;) {
    std::string target = fmt::format("/v1/flows?limit={}", kPage);
    if (!filter.empty()) target += "&" + filter;
    if (!after.empty()) target += "&after=" + percent_encode(after);
    const auto page = fetch(instance, "GET", target);
    if (!page) return std::unexpected(page.error());
    if (!page->is_object() || !page->contains("flows") || !page->contains("next"))
      return failure("flows", instance.name, "its answer makes no sense", "is it another version?");
    for (const auto& flow : (*page)["flows"]) {
      if (!use(flow)) return {};
    }
    if (!(*page)["next"].is_string()) return {};
    after = (*page)["next"].get<std::string>();
  }
}

std::string flow_table_head() {
  return fmt::format("{:<12} {:<5} {:<11} {:<23} {:<23} {:>10} {:>10} {:>8} {:>8} {:>4}  {}", "ID", "PROTO", "STATE",
                     "CLIENT", "TARGET", "UP", "DOWN", "AGE", "IDLE", "RULE", "NAME");
}

std::string flow_table_line(const ordered_json& flow) {
  const std::string target = shown(flow, "target");
  std::string name = shown(flow, "name");
  if (shown(flow, "name_source") == "dns-hint") name += " (dns-hint)";
  if (const std::string upstream = shown(flow, "upstream"); upstream != "-") name += fmt::format(" via {}", upstream);
  return fmt::format("{:<12} {:<5} {:<11} {:<23} {:<23} {:>10} {:>10} {:>8} {:>8} {:>4}  {}", shown(flow, "id"),
                     shown(flow, "protocol"), shown(flow, "state"), shown(flow, "client"),
                     target == "-" ? shown(flow, "original_destination") : target, in_bytes(amount(flow, "bytes_up")),
                     in_bytes(amount(flow, "bytes_down")), in_time(amount(flow, "age_ms")),
                     in_time(amount(flow, "idle_ms")), shown(flow, "rule"), name);
}

}  // namespace limpid
