// The configuration as written: settings that are flags of `limpid run`, named sets, and rules; each knows where it stands, so that whoever finds a mistake later can say so.
// Reads TOML files; knows no flag's meaning.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "policy/rule.h"

namespace limpid {

/// Where something stands. Prints as "limpid.toml:12".
struct Place {
  std::string file;
  std::size_t line = 0;  ///< from 1; 0: the whole file
  [[nodiscard]] std::string to_string() const;
};

/// `key = value`, key and values as text: a flag of `limpid run` without its dashes.
struct Setting {
  std::string key;
  std::vector<std::string> values;  ///< more than one where the value is an array; none for `false`
  bool is_switch = false;           ///< the value is true or false
  Place place;
};

/// `[upstreams.NAME]`: its settings, each once.
struct GroupSettings {
  std::string name;
  std::vector<Setting> settings;
  Place place;
  [[nodiscard]] const Setting* find(std::string_view key) const noexcept;
};

struct Configuration {
  std::vector<std::string> files;     ///< that were read, in order
  std::vector<Setting> settings;      ///< each key once: the last file that says it
  std::vector<GroupSettings> groups;  ///< of upstreams, those of all files
  NamedSets sets;
  std::map<std::string, std::shared_ptr<const RangeSet>>
      places;               ///< that rules name, as they name them: "geoip(DE)", "asn(64496)"
  std::vector<Rule> rules;  ///< those of all files, in order
  std::vector<Place> rule_places;
  std::vector<std::size_t>
      rule_numbers;  ///< in what is written, from 1: rules that cannot be read count, but are not in `rules`
  [[nodiscard]] const Setting* find(std::string_view key) const noexcept;
};

/// Settings that are no flags of `limpid run`, because they are about rules: geoip-database, asn-database.
[[nodiscard]] bool is_rule_setting(std::string_view key) noexcept;
/// As many as can be read of it, and all mistakes.
struct ReadConfiguration {
  Configuration configuration;
  std::vector<Error> errors;
  bool is_complete = true;  ///< false: a file could not be read, or is no TOML, and who knows what it says
};

/// Reads `file`, then the *.toml files of conf.d beside it, by name. All mistakes at once: one error for each, in the order of the files; each names
/// file, line, field and remedy (Error::operation is "limpid.toml:12", Error::object the field).
[[nodiscard]] ReadConfiguration read_configuration(const std::filesystem::path& file);
/// The same where only a configuration without mistakes will do.
[[nodiscard]] std::expected<Configuration, std::vector<Error>> load_configuration(const std::filesystem::path& file);

}  // namespace limpid
