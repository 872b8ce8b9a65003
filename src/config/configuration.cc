// Two passes over the files: first settings and sets of all, then rules, which may use the sets of any file.
#include "config/configuration.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "config/place_database.h"
#include "config/set_reader.h"
#include "config/toml_file.h"

namespace limpid {
namespace {

constexpr std::string_view kCountryDatabase = "geoip-database";
constexpr std::string_view kSystemDatabase = "asn-database";

struct ParsedFile {
  std::filesystem::path path;
  toml::table table;
};

/// A value as a flag takes it. Empty: it is none.
std::optional<std::string> text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  return std::nullopt;
}

/// What via(…) takes in a rule without quotes.
bool is_group_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

class Loader {
 public:
  ReadConfiguration read(const std::filesystem::path& main) {
    parse(main);
    for (const auto& path : additions(main)) parse(path);
    const bool is_complete = errors_.empty();
    for (const ParsedFile& file : files_) read_settings_and_sets(file);
    configuration_.sets.places = [this](PlaceKind kind, const std::string& place) { return networks_of(kind, place); };
    for (const ParsedFile& file : files_) read_rules(file);
    configuration_.sets.places = nullptr;
    return {.configuration = std::move(configuration_), .errors = std::move(errors_), .is_complete = is_complete};
  }

 private:
  void parse(const std::filesystem::path& path) {
    auto table = read_toml(path);
    if (!table) return errors_.push_back(std::move(table.error()));
    files_.push_back({.path = path, .table = std::move(*table)});
    configuration_.files.push_back(path.string());
  }

  static std::vector<std::filesystem::path> additions(const std::filesystem::path& main) {
    std::vector<std::filesystem::path> found;
    std::error_code code;
    for (const auto& entry : std::filesystem::directory_iterator(main.parent_path() / "conf.d", code)) {
      if (entry.path().extension() == ".toml") found.push_back(entry.path());
    }
    std::ranges::sort(found);
    return found;
  }

  void read_settings_and_sets(const ParsedFile& file) {
    for (const auto& [key, node] : file.table) {
      if (key == "rules") continue;
      if (key == "sets") {
        if (const auto* sets = node.as_table()) {
          read_sets(file.path, *sets, configuration_.sets, errors_);
        } else {
          wrong(file, node, "sets", "this is a section", "write [sets], and each set on a line of its own");
        }
        continue;
      }
      if (key == "upstreams") {
        if (const auto* groups = node.as_table()) {
          read_groups(file, *groups);
        } else {
          wrong(file, node, "upstreams", "this is a section of sections",
                "write [upstreams.NAME], and its settings below");
        }
        continue;
      }
      auto setting = read_setting(file, std::string(key.str()), std::string(key.str()), node);
      if (!setting) continue;
      auto& settings = configuration_.settings;
      const auto earlier = std::ranges::find(settings, setting->key, &Setting::key);
      if (earlier == settings.end()) {
        settings.push_back(std::move(*setting));
      } else {
        *earlier = std::move(*setting);
      }
    }
  }

  void read_groups(const ParsedFile& file, const toml::table& groups) {
    for (const auto& [key, node] : groups) {
      const std::string name(key.str());
      const std::string field = fmt::format("upstreams.{}", name);
      const auto* table = node.as_table();
      if (!is_group_name(name)) {
        wrong(file, node, field, "a group's name has up to 64 letters, digits, - and _", "rename it");
      } else if (table == nullptr) {
        wrong(file, node, field, "this is a section",
              fmt::format("write [upstreams.{}], and its settings below", name));
      } else if (std::ranges::find(configuration_.groups, name, &GroupSettings::name) != configuration_.groups.end()) {
        wrong(file, node, field, "an earlier file has a group of this name", "rename one of them");
      } else {
        GroupSettings group{.name = name, .settings = {}, .place = place_of(file.path, node.source())};
        for (const auto& [setting_key, value] : *table) {
          auto setting =
              read_setting(file, fmt::format("{}.{}", field, setting_key.str()), std::string(setting_key.str()), value);
          if (setting) group.settings.push_back(std::move(*setting));
        }
        configuration_.groups.push_back(std::move(group));
      }
    }
  }

  std::optional<Setting> read_setting(const ParsedFile& file, const std::string& field, const std::string& key,
                                      const toml::node& node) {
    Setting setting{
        .key = key, .values = {}, .is_switch = node.is_boolean(), .place = place_of(file.path, node.source())};
    if (const auto* value = node.as_boolean()) {
      if (value->get()) setting.values.emplace_back("true");
    } else if (const auto* list = node.as_array()) {
      for (const toml::node& entry : *list) {
        const auto text = text_of(entry);
        if (!text) {
          wrong(file, entry, field, "a list holds texts or numbers", "write it in \"quotes\"");
          return std::nullopt;
        }
        setting.values.push_back(*text);
      }
      if (setting.values.empty()) {
        wrong(file, node, field, "the list is empty", "leave the line out");
        return std::nullopt;
      }
    } else if (const auto text = text_of(node)) {
      setting.values.push_back(*text);
    } else {
      wrong(file, node, field,
            node.is_table() ? "there is no such section" : "neither text, number, true, false nor a list",
            node.is_table() ? "sections are [sets] and [upstreams.NAME]; settings stand above them"
                            : "write it in \"quotes\"");
      return std::nullopt;
    }
    return setting;
  }

  void read_rules(const ParsedFile& file) {
    const auto* node = file.table.get("rules");
    if (node == nullptr) return;
    const auto* list = node->as_array();
    if (list == nullptr)
      return wrong(file, *node, "rules", "this is a list of texts", R"(write rules = ["otherwise -> direct"])");
    for (std::size_t i = 0; i < list->size(); ++i) {
      ++rules_seen_;
      const toml::node& entry = *list->get(i);
      const std::string field = fmt::format("rules[{}]", i + 1);
      const auto* text = entry.as_string();
      if (text == nullptr) {
        wrong(file, entry, field, "a rule is a text", "write it in \"quotes\"");
        continue;
      }
      auto rule = parse_rule(text->get(), configuration_.sets);
      if (!rule) {
        if (rule.error().code == kUnusableSet) continue;  // which has been told of already
        wrong(file, entry, field, rule.error().cause, rule.error().remedy);
        continue;
      }
      configuration_.rules.push_back(std::move(*rule));
      configuration_.rule_places.push_back(place_of(file.path, entry.source()));
      configuration_.rule_numbers.push_back(rules_seen_);
    }
  }

  /// A database is read when the first rule asks for it, and forgotten with the loader.
  Result<std::shared_ptr<const RangeSet>> networks_of(PlaceKind kind, const std::string& place) {
    const bool countries = kind == PlaceKind::country;
    const Setting* setting = configuration_.find(countries ? kCountryDatabase : kSystemDatabase);
    // Every rule that asks would say it again.
    if (std::exchange(countries ? no_countries_ : no_systems_, true)) return consequence();
    if (setting == nullptr || setting->values.size() != 1 || setting->is_switch) {
      return usage_error("", "", "there is no database to look it up in",
                         fmt::format("set {} = \"FILE.mmdb\"", countries ? kCountryDatabase : kSystemDatabase));
    }
    const std::filesystem::path path =
        std::filesystem::path(setting->place.file).parent_path() / setting->values.front();
    auto& known = countries ? countries_ : systems_;
    if (!known) known = read_place_database(path, kind);
    if (!*known) return std::unexpected(known->error());
    (countries ? no_countries_ : no_systems_) = false;
    const auto found = (*known)->find(place);
    if (found == (*known)->end())
      return usage_error("", "", fmt::format("{} has no network of {}{}", path.string(), countries ? "" : "AS", place),
                         "");
    configuration_.places.emplace(fmt::format("{}({})", countries ? "geoip" : "asn", place), found->second);
    return found->second;
  }

  static std::unexpected<Error> consequence() {
    auto error = usage_error("", "", "the database cannot be used");
    error.error().code = kUnusableSet;
    return error;
  }

  void wrong(const ParsedFile& file, const toml::node& node, std::string_view field, std::string_view cause,
             std::string_view remedy) {
    errors_.push_back(wrong_at(place_of(file.path, node.source()), field, cause, remedy));
  }

  std::optional<Result<PlaceNetworks>> countries_;  ///< empty: nobody has asked
  std::optional<Result<PlaceNetworks>> systems_;
  bool no_countries_ = false;  ///< and it has been said
  bool no_systems_ = false;
  std::vector<ParsedFile> files_;
  std::size_t rules_seen_ = 0;
  Configuration configuration_;
  std::vector<Error> errors_;
};

}  // namespace

std::string Place::to_string() const {
  return line == 0 ? file : fmt::format("{}:{}", file, line);
}

bool is_rule_setting(std::string_view key) noexcept {
  return key == kCountryDatabase || key == kSystemDatabase;
}

const Setting* GroupSettings::find(std::string_view key) const noexcept {
  const auto found = std::ranges::find(settings, key, &Setting::key);
  return found == settings.end() ? nullptr : &*found;
}

const Setting* Configuration::find(std::string_view key) const noexcept {
  const auto found = std::ranges::find(settings, key, &Setting::key);
  return found == settings.end() ? nullptr : &*found;
}

std::expected<Configuration, std::vector<Error>> load_configuration(const std::filesystem::path& file) {
  auto read = read_configuration(file);
  if (!read.errors.empty()) return std::unexpected(std::move(read.errors));
  return std::move(read.configuration);
}

ReadConfiguration read_configuration(const std::filesystem::path& file) {
  return Loader().read(file);
}

}  // namespace limpid
