// limpid status: what a running instance says about itself. 0: it serves and its rules are in place; 1: there is none, or something is wrong with it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/plural.h"
#include "base/terminal_text.h"
#include "cli/control_flags.h"
#include "cli/verb.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

std::string text_of(const ordered_json& json, const std::string& key) {
  if (!json.is_object() || !json.contains(key) || json[key].is_null()) return "-";
  const auto& value = json[key];
  if (value.is_string()) return value.get<std::string>().empty() ? "-" : for_terminal(value.get<std::string>());
  if (!value.is_array()) return value.dump();
  std::string joined;
  for (const auto& each : value) {
    if (!joined.empty()) joined += ", ";
    joined += each.is_string() ? for_terminal(each.get<std::string>()) : each.dump();
  }
  return joined.empty() ? "-" : joined;
}

std::uint64_t number_of(const ordered_json& json, const std::string& key) {
  return json.is_object() && json.contains(key) && json[key].is_number_unsigned() ? json[key].get<std::uint64_t>() : 0;
}

void line(std::string_view key, const std::string& value) {
  fmt::print("{:<14}{}\n", key, value);
}

/// "backup of proxies, all 2 of exits"; empty: all are up.
std::string those_down(const ordered_json& upstreams) {
  std::string down;
  for (const auto& group : upstreams.value("groups", ordered_json::array())) {
    std::string names;
    std::size_t count = 0;
    const auto members = group.value("upstreams", ordered_json::array());
    for (const auto& member : members) {
      if (member.value("up", true)) continue;
      names += fmt::format("{}{}", count++ == 0 ? "" : ", ", text_of(member, "name"));
    }
    if (count == 0) continue;
    down += fmt::format("{}{} of group {}{}", down.empty() ? "" : "; ", names, text_of(group, "name"),
                        count == members.size() ? fmt::format(" (all of it: {})", text_of(group, "down")) : "");
  }
  return down;
}

void print_text(const ordered_json& status, const ordered_json& upstreams) {
  const auto& flows = status["flows"];
  line("instance", fmt::format("{} (limpid {} {}, pid {})", text_of(status, "name"), text_of(status, "verb"),
                               text_of(status, "version"), text_of(status, "pid")));
  line("state", fmt::format("{}, for {}", text_of(status, "state"), in_time(number_of(status, "uptime_ms"))));
  if (const auto& plan = status["plan"]; plan.is_object()) {
    line("rules", fmt::format("{} by {}; changed by others {}, put back {} (--repair {})", text_of(plan, "state"),
                              text_of(plan, "backend"), counted(number_of(plan, "disturbances"), "time"),
                              counted(number_of(plan, "repairs"), "time"), text_of(plan, "repair")));
    line("intercepts", fmt::format("tcp {}, udp {} ({}), fail {}", text_of(plan, "tcp"), text_of(plan, "udp"),
                                   text_of(status, "families"), text_of(plan, "fail")));
    line("kernel", fmt::format("mark {}, table {}, priority {}", text_of(plan, "mark"), text_of(plan, "table"),
                               text_of(plan, "priority")));
  }
  line("listeners", text_of(status, "listeners"));
  line("flows", fmt::format("{} of {} tcp, {} udp; {} and {} of them cut through", number_of(flows, "tcp"),
                            number_of(status["limits"], "flows"), number_of(flows, "udp"),
                            number_of(flows, "cut_through"), number_of(flows, "udp_cut_through")));
  if (const auto refused = status["limits"].value("refused", std::uint64_t{0}); refused > 0)
    line("refused", fmt::format("{}, because there was no room for more flows", counted(refused, "connection")));
  if (status.contains("dns_hints") && !status["dns_hints"].is_null())
    line("dns-hint", counted(number_of(status, "dns_hints"), "address with a name out of DNS answers",
                             "addresses with names out of DNS answers"));
  if (upstreams.is_object() && !upstreams.value("groups", ordered_json::array()).empty()) {
    const std::string down = those_down(upstreams);
    line("upstreams", down.empty() ? "all up" : "down: " + down);
  }
  const auto& configuration = status["configuration"];
  line("configuration", text_of(configuration, "file"));
  if (const auto& last = configuration["last_reload"]; last.is_object()) {
    const bool ok = last.value("ok", false);
    line("last reload", fmt::format("{}: {}", text_of(last, "at"), ok ? "done" : "failed: " + text_of(last, "errors")));
  }
  line("log level", text_of(status, "log_level"));
  if (status.contains("metrics") && !status["metrics"].is_null()) line("metrics", text_of(status, "metrics"));
  if (status.contains("dashboard") && !status["dashboard"].is_null())
    line("dashboard", fmt::format("http://{}/", text_of(status, "dashboard")));
}

bool is_well(const ordered_json& status) {
  const auto& plan = status["plan"];
  const bool in_place = !plan.is_object() || (plan["state"] != "disturbed" && plan["state"] != "given_up");
  return status["state"] == "serving" && in_place;
}

int show_status(const ControlFlags& flags) {
  const auto status = fetch(flags, "GET", "/v1/status");
  if (!status) return report(status.error());
  if (!status->is_object() || !status->contains("state") || !status->contains("plan") || !status->contains("flows") ||
      !status->contains("limits") || !status->contains("configuration")) {
    return report(failure("status", flags.name, "its answer makes no sense", "is it another version?").error());
  }
  if (flags.json) {
    fmt::print("{}\n", status->dump(2));
  } else {
    // Of an instance without upstreams, or an older one, there is nothing to say.
    print_text(*status, fetch(flags, "GET", "/v1/upstreams").value_or(ordered_json()));
  }
  return is_well(*status) ? kExitDone : kExitFailure;
}

}  // namespace

void add_status_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("status", "Say how a running instance fares: 0 well, 1 not, or not running");
  auto flags = std::make_shared<ControlFlags>();
  add_control_flags(*verb, *flags);
  verb->callback([flags, &action] { action = [flags] { return show_status(*flags); }; });
}

}  // namespace limpid
