// limpid diff: what a reload of a running instance with a configuration would change. Changes nothing.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/plural.h"
#include "cli/config_flags.h"
#include "cli/control_flags.h"
#include "cli/verb.h"
#include "config/description.h"
#include "service/reload.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

/// diff(1)'s statuses: trouble must not look like a difference.
constexpr int kSame = 0;
constexpr int kDiffers = 1;
constexpr int kTrouble = 2;

struct DiffFlags {
  std::string file = kDefaultConfiguration;
  std::string name;
  std::string control;
  bool json = false;
};

int trouble(const Error& error) {
  report(error);
  return kTrouble;
}

Result<ConfigurationDescription> running(const ControlFlags& instance) {
  const auto answer = ask_instance(instance, "GET", "/v1/config");
  if (!answer) return std::unexpected(answer.error());
  const auto json = ordered_json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("configuration")) return parse_description(json["configuration"].dump());
  return failure("compare", fmt::format("instance \"{}\"", instance.name), "it was started without a configuration",
                 "restart it with limpid run -c FILE");
}

std::string text_of(const std::vector<std::string>& values) {
  return values.empty() ? "(default)" : fmt::format("{}", fmt::join(values, ","));
}

void print_text(const ConfigurationDifference& difference) {
  for (const auto& rule : difference.rules) {
    if (rule.after == 0) fmt::print("- rule {}: {}\n", rule.before, rule.text);
    if (rule.before == 0) fmt::print("+ rule {}: {}\n", rule.after, rule.text);
    if (rule.before != 0 && rule.after != 0)
      fmt::print("~ rule {} becomes {}: {}\n", rule.before, rule.after, rule.text);
  }
  for (const auto& set : difference.sets) {
    if (!set.will_be) fmt::print("- set {}: {}\n", set.name, counted(set.size_before, "entry", "entries"));
    if (!set.was) fmt::print("+ set {}: {}\n", set.name, counted(set.size_after, "entry", "entries"));
    if (set.was && set.will_be)
      fmt::print("~ set {}: {}, then {}\n", set.name, counted(set.size_before, "entry", "entries"), set.size_after);
  }
  for (const auto& group : difference.groups) {
    const char sign = !group.was ? '+' : !group.will_be ? '-' : '~';
    const std::string changed = group.changed.empty() ? "" : fmt::format(": {}", fmt::join(group.changed, ", "));
    fmt::print("{} upstreams.{}{}\n", sign, group.name, changed);
  }
  for (const auto& setting : difference.settings) {
    fmt::print("~ {}: {}, then {}{}\n", setting.key, text_of(setting.before), text_of(setting.after),
               is_reloadable(setting.key, setting.before, setting.after) ? "" : " (needs a restart)");
  }
}

void print_json(const ConfigurationDifference& difference) {
  ordered_json rules = ordered_json::array();
  for (const auto& rule : difference.rules) {
    rules.push_back({{"change", rule.before == 0  ? "added"
                                : rule.after == 0 ? "removed"
                                                  : "moved"},
                     {"before", rule.before == 0 ? ordered_json() : ordered_json(rule.before)},
                     {"after", rule.after == 0 ? ordered_json() : ordered_json(rule.after)},
                     {"rule", rule.text}});
  }
  ordered_json sets = ordered_json::array();
  for (const auto& set : difference.sets) {
    sets.push_back({{"change", !set.was       ? "added"
                               : !set.will_be ? "removed"
                                              : "changed"},
                    {"set", set.name},
                    {"size_before", set.was ? ordered_json(set.size_before) : ordered_json()},
                    {"size_after", set.will_be ? ordered_json(set.size_after) : ordered_json()}});
  }
  ordered_json settings = ordered_json::array();
  bool needs_restart = false;
  for (const auto& setting : difference.settings) {
    const bool reloadable = is_reloadable(setting.key, setting.before, setting.after);
    needs_restart = needs_restart || !reloadable;
    settings.push_back({{"setting", setting.key},
                        {"before", setting.before},
                        {"after", setting.after},
                        {"needs_restart", !reloadable}});
  }
  ordered_json groups = ordered_json::array();
  for (const auto& group : difference.groups) {
    groups.push_back({{"change", !group.was       ? "added"
                                 : !group.will_be ? "removed"
                                                  : "changed"},
                      {"group", group.name},
                      {"settings", group.changed}});
  }
  const ordered_json json = {{"schema", 1},
                             {"same", difference.empty()},
                             {"needs_restart", needs_restart},
                             {"rules", rules},
                             {"sets", sets},
                             {"settings", settings},
                             {"upstreams", groups}};
  fmt::print("{}\n", json.dump(2, ' ', false, ordered_json::error_handler_t::replace));
}

int diff(const DiffFlags& flags) {
  const CLI::App nothing_typed;
  const auto file = configuration_at(flags.file);
  if (!file) return trouble(file.error());
  const auto loaded = load_service(*file, nothing_typed);
  if (!loaded) {
    report_all(loaded.error());
    return kTrouble;
  }
  const auto wanted = parse_description(loaded->options.description);
  if (!wanted) return trouble(wanted.error());
  ControlFlags instance{.name = flags.name.empty() ? loaded->options.interception.name : flags.name,
                        .path = flags.control};
  // The running one may have another socket than the one that the file will give it, but it is the better guess.
  if (instance.path.empty() && flags.name.empty() && loaded->options.control != "none")
    instance.path = loaded->options.control;
  const auto now = running(instance);
  if (!now) return trouble(now.error());
  const auto difference = compare(*now, *wanted);
  if (flags.json) {
    print_json(difference);
  } else {
    print_text(difference);
  }
  return difference.empty() ? kSame : kDiffers;
}

}  // namespace

void add_diff_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand(
      "diff", "Say what limpid reload would change with a configuration: 0 nothing, 1 something, 2 trouble");
  auto flags = std::make_shared<DiffFlags>();
  verb->add_option("file,-c,--config", flags->file,
                   "The configuration (/etc/limpid/limpid.toml), with conf.d beside it")
      ->type_name("FILE");
  verb->add_option("--name", flags->name, "Which instance, if not the one that the configuration names")
      ->type_name("NAME");
  verb->add_option("--control", flags->control, "Its control socket, if it is not the usual one of that name")
      ->type_name("PATH");
  verb->add_flag("--json", flags->json, "Print the differences as JSON");
  verb->callback([flags, &action] { action = [flags] { return diff(*flags); }; });
}

}  // namespace limpid
