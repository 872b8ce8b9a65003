// limpid flows: the flows of a running instance, all of them or those that were asked for.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/control_flags.h"
#include "cli/flow_flags.h"
#include "cli/flows_capture.h"
#include "cli/flows_watch.h"
#include "cli/verb.h"
#include "control/http_client.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

struct FlowsFlags {
  ControlFlags instance;
  FlowFlags which;
  std::string sort = "id";
  std::string limit;
  std::string interval;
  std::string count;
  bool watch = false;
};

/// What is asked for, without a limit.
std::string target_of(const FlowsFlags& flags) {
  std::string target = fmt::format("/v1/flows?sort={}", percent_encode(flags.sort));
  if (const std::string filter = as_arguments(flags.which); !filter.empty()) target += "&" + filter;
  return target;
}

int print_page(const FlowsFlags& flags) {
  std::string target = target_of(flags);
  if (!flags.limit.empty()) target += "&limit=" + percent_encode(flags.limit);
  const auto page = fetch(flags.instance, "GET", target);
  if (!page) return report(page.error());
  if (flags.instance.json) {
    fmt::print("{}\n", page->dump(2));
    return kExitDone;
  }
  if (!page->is_object() || !page->contains("flows"))
    return report(failure("flows", flags.instance.name, "its answer makes no sense", "is it another version?").error());
  fmt::print("{}\n", flow_table_head());
  for (const auto& flow : (*page)["flows"]) fmt::print("{}\n", flow_table_line(flow));
  return kExitDone;
}

/// Page by page: a million flows are printed as they come.
int print_all(const FlowsFlags& flags) {
  bool first = true;
  const bool json = flags.instance.json;
  const auto done = for_each_flow(flags.instance, flags.which, [&](const ordered_json& flow) {
    if (first) fmt::print("{}", json ? "{\"schema\": 1, \"flows\": [\n" : flow_table_head() + "\n");
    if (json) {
      fmt::print("{}{}", first ? "" : ",\n", flow.dump());
    } else {
      fmt::print("{}\n", flow_table_line(flow));
    }
    first = false;
    return std::ferror(stdout) == 0;
  });
  if (!done) return report(done.error());
  if (first) fmt::print("{}", json ? R"({"schema": 1, "flows": [)" : flow_table_head() + "\n");
  if (json) fmt::print("{}]}}\n", first ? "" : "\n");
  return kExitDone;
}

int list_flows(const FlowsFlags& flags) {
  if (!flags.watch && (!flags.interval.empty() || !flags.count.empty())) {
    return report(usage_error(flags.interval.empty() ? "--count" : "--interval", "", "there is one list only",
                              "add --watch, or leave it out")
                      .error());
  }
  if (!flags.watch) return flags.sort == "id" && flags.limit.empty() ? print_all(flags) : print_page(flags);
  const auto rhythm = parse_watch_rhythm(flags.interval, flags.count);
  if (!rhythm) return report(rhythm.error());
  return watch_flows(flags.instance, target_of(flags), flags.limit, *rhythm);
}

}  // namespace

void add_flows_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("flows", "List the flows of a running instance");
  auto flags = std::make_shared<FlowsFlags>();
  add_control_flags(*verb, flags->instance);
  add_flow_flags(*verb, flags->which);
  verb->add_option("--sort", flags->sort, "id, bytes, age or idle (the most first), or -bytes, -age, -idle")
      ->type_name("ORDER")
      ->capture_default_str();
  verb->add_option("--limit", flags->limit, "Not more than N, of 1000 at most; all of them, or 100 with --sort")
      ->type_name("N");
  constexpr auto kWatching = "Watching";
  verb->add_flag("--watch", flags->watch, "List them anew again and again; with --json one object on each line")
      ->group(kWatching);
  verb->add_option("--interval", flags->interval, "How often (2s)")->type_name("TIME")->group(kWatching);
  verb->add_option("--count", flags->count, "So many lists, then end; without it, until ^C")
      ->type_name("N")
      ->group(kWatching);
  add_flows_capture_verb(*verb, action);
  verb->callback([flags, verb, &action] {
    if (verb->get_subcommands().empty()) action = [flags] { return list_flows(*flags); };
  });
}

}  // namespace limpid
