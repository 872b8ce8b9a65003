// limpid check: whether a configuration can be used, without touching anything.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <expected>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "cli/config_flags.h"
#include "cli/run_flags.h"
#include "cli/verb.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

struct CheckFlags {
  std::vector<std::string> files;
  bool json = false;
};

struct Checked {
  std::string file;
  std::expected<LoadedService, std::vector<Error>> loaded;
};

ordered_json findings(const std::vector<Error>& errors) {
  ordered_json list = ordered_json::array();
  for (const Error& error : errors) {
    list.push_back(
        {{"place", error.operation}, {"field", error.object}, {"cause", error.cause}, {"remedy", error.remedy}});
  }
  return list;
}

ordered_json as_json(const Checked& checked) {
  const auto& loaded = checked.loaded;
  ordered_json json = {{"ok", loaded.has_value()},
                       {"errors", findings(loaded ? std::vector<Error>() : loaded.error())},
                       {"warnings", findings(loaded ? loaded->warnings : std::vector<Error>())},
                       {"notes", findings(loaded ? loaded->notes : std::vector<Error>())}};
  if (loaded) {
    json["files"] = loaded->configuration.files;
    json["rules"] = loaded->configuration.rules.size();
    ordered_json groups = ordered_json::array();
    for (const auto& group : loaded->options.upstreams) groups.push_back(group.name);
    json["upstreams"] = groups;
  }
  return json;
}

/// What one configuration says stands at the top, as if there were no others; with several, what they say together.
void print_json(const std::vector<Checked>& all) {
  ordered_json json = {{"schema", 1}};
  ordered_json each = ordered_json::array();
  for (const Checked& checked : all) {
    auto one = as_json(checked);
    for (const auto& [key, value] : one.items()) {
      if (!json.contains(key)) {
        json[key] = value;
      } else if (value.is_array()) {
        json[key].insert(json[key].end(), value.begin(), value.end());
      } else if (value.is_number()) {
        json[key] = json[key].get<std::size_t>() + value.get<std::size_t>();
      } else {
        json[key] = json[key].get<bool>() && value.get<bool>();
      }
    }
    one["file"] = checked.file;
    each.push_back(std::move(one));
  }
  json["configurations"] = std::move(each);
  fmt::print("{}\n", json.dump(2, ' ', false, ordered_json::error_handler_t::replace));
}

void print_text(const Checked& checked) {
  if (!checked.loaded) {
    report_all(checked.loaded.error());
    return;
  }
  const LoadedService& loaded = *checked.loaded;
  for (const Error& warning : loaded.warnings) fmt::print(stderr, "limpid: warning: {}\n", warning.message());
  for (const Error& note : loaded.notes) fmt::print(stderr, "limpid: note: {}\n", note.message());
  const Configuration& configuration = loaded.configuration;
  const std::size_t groups = loaded.options.upstreams.size();
  fmt::print("{}: {} settings, {} sets, {}{} rules: can be used\n", fmt::join(configuration.files, ", "),
             configuration.settings.size(), configuration.sets.addresses.size() + configuration.sets.domains.size(),
             groups == 0 ? "" : fmt::format("{} groups of upstreams, ", groups), configuration.rules.size());
}

/// A directory stands for its limpid.toml, or, where it has none, for each *.toml in it, by name.
Result<std::vector<std::string>> configurations_at(const std::string& typed) {
  std::error_code code;
  const std::filesystem::path path(typed);
  if (!std::filesystem::is_directory(path, code)) return std::vector<std::string>{typed};
  if (const auto main = path / "limpid.toml"; std::filesystem::exists(main, code))
    return std::vector<std::string>{main.string()};
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(path, code)) {
    if (entry.path().extension() == ".toml") found.push_back(entry.path().string());
  }
  if (code) return failure("read", typed, code.message());
  if (found.empty()) return usage_error("check", typed, "there is no *.toml in this directory", "name a file");
  std::ranges::sort(found);
  return found;
}

int check(const CheckFlags& flags) {
  const CLI::App nothing_typed;
  std::vector<Checked> all;
  for (const std::string& typed : flags.files) {
    const auto files = configurations_at(typed);
    if (!files) return report(files.error());
    for (const std::string& file : *files) all.push_back({.file = file, .loaded = load_service(file, nothing_typed)});
  }
  if (flags.json) print_json(all);
  int status = kExitDone;
  for (const Checked& checked : all) {
    if (!flags.json) print_text(checked);
    if (!checked.loaded && status == kExitDone) status = exit_status(checked.loaded.error().front());
  }
  return status;
}

}  // namespace

void add_check_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("check", "Say what is wrong with a configuration, if anything; changes nothing");
  auto flags = std::make_shared<CheckFlags>();
  verb->add_option(
          "file,-c,--config", flags->files,
          "The configuration (/etc/limpid/limpid.toml), with conf.d beside it; several, or directories of them")
      ->type_name("FILE");
  verb->add_flag("--json", flags->json, "Print the findings as JSON");
  verb->callback([flags, &action] {
    if (flags->files.empty()) flags->files.emplace_back(kDefaultConfiguration);
    action = [flags] { return check(*flags); };
  });
}

}  // namespace limpid
