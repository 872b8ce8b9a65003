// limpid top: the flows of a running instance and their rates, live on a terminal, or once as text or JSON.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "cli/control_flags.h"
#include "cli/duration.h"
#include "cli/flag_values.h"
#include "cli/flow_flags.h"
#include "cli/top_screen.h"
#include "cli/verb.h"
#include "top/drawing.h"
#include "top/terminal.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

struct TopFlags {
  ControlFlags instance;
  FlowFlags which;
  std::string sort = "rate";
  std::string group = "none";
  std::string filter;
  std::string interval = "1s";
  std::string limit = "500";
  std::string color = "auto";
  bool once = false;
};

constexpr std::chrono::milliseconds kShortest{100};

Result<TopScreen> parse(const TopFlags& flags) {
  TopScreen screen;
  const auto sort = top::parse_sort(flags.sort);
  if (!sort) return wrong("--sort", flags.sort, "not an order", "rate, bytes, age, client or destination");
  const auto group = top::parse_group(flags.group);
  if (!group)
    return wrong("--group", flags.group, "not a grouping", "none, client, destination, name, rule or upstream");
  if (flags.color != "auto" && flags.color != "always" && flags.color != "never")
    return wrong("--color", flags.color, "not a choice", "auto, always or never");
  const auto interval = parse_duration("--interval", flags.interval);
  if (!interval) return std::unexpected(interval.error());
  if (*interval < kShortest) return wrong("--interval", flags.interval, "too short", "100ms or more");
  constexpr std::uint32_t kMost = 1000;
  const auto limit = parse_number("--limit", flags.limit, 1, kMost, "how many flows");
  if (!limit) return std::unexpected(limit.error());
  if (flags.instance.json && !flags.once) return usage_error("--json", "", "a screen is no JSON", "add --once");
  screen.source = {.instance = flags.instance, .which = flags.which, .limit = *limit};
  screen.choice.sort = *sort;
  screen.choice.group = *group;
  screen.choice.filter = top::in_cells(flags.filter);
  screen.interval = *interval;
  screen.unicode = shows_unicode();
  // NOLINTBEGIN(concurrency-mt-unsafe): the process has one thread yet
  const char* refused = std::getenv("NO_COLOR");
  screen.colour = flags.color == "always" || (flags.color == "auto" && (refused == nullptr || *refused == '\0'));
  const char* kind = std::getenv("TERM");
  const bool is_screen = kind != nullptr && *kind != '\0' && std::string_view(kind) != "dumb";
  // NOLINTEND(concurrency-mt-unsafe)
  if (!flags.once && (!is_screen || ::isatty(STDIN_FILENO) != 1 || ::isatty(STDOUT_FILENO) != 1)) {
    return usage_error("top", "", is_screen ? "standard input and output are no terminal" : "TERM names no terminal",
                       "say limpid top --once, with --json for programs");
  }
  return screen;
}

ordered_json rates_json(double up, double down) {
  return {{"bytes_up_per_second", up}, {"bytes_down_per_second", down}};
}

ordered_json text_or_null(const std::string& text) {
  return text.empty() ? ordered_json() : ordered_json(text);
}

ordered_json row_json(const top::Row& row, top::Group group) {
  const auto& flow = row.rated.flow;
  ordered_json json = ordered_json::object();
  if (group == top::Group::none) {
    json = {{"id", flow.id},
            {"protocol", flow.protocol},
            {"state", flow.state},
            {"cut_through", flow.cut_through},
            {"client", flow.client},
            {"original_destination", text_or_null(flow.destination)},
            {"name", text_or_null(flow.name)},
            {"name_source", text_or_null(flow.name_source)},
            {"rule", flow.rule ? ordered_json(*flow.rule) : ordered_json()},
            {"upstream", text_or_null(flow.upstream)}};
  } else {
    json = {{"group", row.key}, {"flows", row.flows}};
  }
  json["bytes_up"] = flow.bytes_up;
  json["bytes_down"] = flow.bytes_down;
  json["bytes_up_per_second"] = row.rated.known ? ordered_json(row.rated.up) : ordered_json();
  json["bytes_down_per_second"] = row.rated.known ? ordered_json(row.rated.down) : ordered_json();
  json["age_ms"] = flow.age_ms;
  return json;
}

ordered_json as_json(const top::View& view) {
  const auto& last = view.meter().last();
  const auto& rates = view.meter().rates();
  ordered_json json = {
      {"schema", 1},
      {"name", text_or_null(last.instance)},
      {"state", last.state},
      {"plan", text_or_null(last.plan)},
      {"flows",
       {{"tcp", last.tcp}, {"udp", last.udp}, {"cut_through", last.tcp_cut}, {"udp_cut_through", last.udp_cut}}},
      {"rates", rates_json(rates.up, rates.down)},
      {"sort", top::to_string(view.choice().sort)},
      {"group", top::to_string(view.choice().group)},
      {"all_flows", last.all_flows},
      {"rows", ordered_json::array()}};
  json["rates"]["connections_per_second"] = rates.connections;
  json["rates"]["sessions_per_second"] = rates.sessions;
  json["rates"]["refusals_per_second"] = rates.refusals;
  for (const auto& row : view.rows()) json["rows"].push_back(row_json(row, view.choice().group));
  return json;
}

/// Two readings, an interval apart: rates need them.
int show_once(const TopScreen& screen) {
  top::View view(screen.choice);
  auto first = ask_for_reading(screen.source, screen.choice.sort);
  if (!first) return report(first.error());
  view.take(std::move(*first));
  std::this_thread::sleep_for(screen.interval);
  auto second = ask_for_reading(screen.source, screen.choice.sort);
  if (!second) return report(second.error());
  view.take(std::move(*second));
  if (screen.source.instance.json) {
    fmt::print("{}\n", as_json(view).dump(2));
    return kExitDone;
  }
  top::Canvas canvas = top::size_of_terminal(STDOUT_FILENO);
  canvas.unicode = screen.unicode;
  view.set_page(top::rows_that_fit(canvas));
  fmt::print("{}", top::draw_once(view, canvas));
  return kExitDone;
}

int run_top(const TopFlags& flags) {
  const auto screen = parse(flags);
  if (!screen) return report(screen.error());
  if (flags.once) return show_once(*screen);
  const auto done = show_live(*screen);
  return done ? kExitDone : report(done.error());
}

}  // namespace

void add_top_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("top", "Show the flows of a running instance and their rates, live");
  auto flags = std::make_shared<TopFlags>();
  add_control_flags(*verb, flags->instance, /*prints=*/false);
  verb->add_option("--sort", flags->sort, "What stands on top")
      ->type_name("rate|bytes|age|client|destination")
      ->capture_default_str();
  verb->add_option("--group", flags->group, "One row for all flows that have it in common")
      ->type_name("none|client|destination|name|rule|upstream")
      ->capture_default_str();
  verb->add_option("--filter", flags->filter, "Only flows with TEXT in an address, name, state or protocol")
      ->type_name("TEXT");
  verb->add_option("--interval", flags->interval, "Between two looks")->type_name("TIME")->capture_default_str();
  verb->add_option("--limit", flags->limit, "How many flows the instance is asked for, at most 1000")
      ->type_name("N")
      ->capture_default_str();
  verb->add_option("--color", flags->color, "Colours; auto: unless NO_COLOR is set")
      ->type_name("auto|always|never")
      ->capture_default_str();
  verb->add_flag("--once", flags->once, "Print one screen as text, and end");
  verb->add_flag("--json", flags->instance.json, "With --once: print the numbers as JSON");
  add_flow_flags(*verb, flags->which);
  verb->callback([flags, &action] { action = [flags] { return run_top(*flags); }; });
}

}  // namespace limpid
