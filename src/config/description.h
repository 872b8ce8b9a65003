// A configuration as it can be shown and compared: texts of settings and rules, sizes and fingerprints of sets. A running instance hands its own to `limpid diff`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/configuration.h"
#include "limpid/error.h"

namespace limpid {

struct SetDescription {
  bool holds_networks = false;  ///< else: domains
  std::size_t size = 0;         ///< networks that neither overlap nor touch; names, keywords and patterns
  std::uint64_t fingerprint = 0;
  bool operator==(const SetDescription&) const = default;
};

struct GroupDescription {
  std::map<std::string, std::vector<std::string>> settings;  ///< without secrets
  std::uint64_t secrets = 0;                                 ///< a fingerprint of them, of 16 bits
  bool operator==(const GroupDescription&) const = default;
};

struct ConfigurationDescription {
  std::map<std::string, std::vector<std::string>> settings;  ///< by flag, without dashes; a switch: "true"
  std::vector<std::string> typed;  ///< those of them that came from the command line and win over files
  std::vector<std::string> rules;
  std::map<std::string, SetDescription> sets;
  std::map<std::string, GroupDescription> groups;  ///< of upstreams
};

/// Its rules and sets.
[[nodiscard]] ConfigurationDescription describe(const Configuration& configuration);
/// One line. Passwords are left out of it (config/redaction.h).
[[nodiscard]] std::string to_json(const ConfigurationDescription& description);
[[nodiscard]] Result<ConfigurationDescription> parse_description(std::string_view text);

struct ConfigurationDifference {
  struct Rule {
    std::string text;
    std::size_t before = 0;  ///< its place, from 1; 0: it was not there
    std::size_t after = 0;   ///< 0: it will not be there
  };
  struct Setting {
    std::string key;
    std::vector<std::string> before;  ///< empty: the default
    std::vector<std::string> after;
  };
  struct Set {
    std::string name;
    bool was = false;
    bool will_be = false;
    std::size_t size_before = 0;
    std::size_t size_after = 0;
  };
  struct Group {
    std::string name;
    bool was = false;
    bool will_be = false;
    std::vector<std::string> changed;  ///< the settings that differ; "password" where nothing else tells
  };
  std::vector<Rule> rules;  ///< removed, added or moved; those that keep their order among the others are not here
  std::vector<Setting> settings;
  std::vector<Set> sets;
  std::vector<Group> groups;
  [[nodiscard]] bool empty() const noexcept {
    return rules.empty() && settings.empty() && sets.empty() && groups.empty();
  }
};

/// What `after` would change. Settings that were typed at `before` are left out: no file changes them.
[[nodiscard]] ConfigurationDifference compare(const ConfigurationDescription& before,
                                              const ConfigurationDescription& after);

}  // namespace limpid
