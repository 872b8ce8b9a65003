// Rules are compared as diff(1) does: the longest common subsequence stays, the rest was removed, added, or, with the same text on both sides, moved.
#include "config/description.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "config/redaction.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

/// Places of rules, from 0, that both lists have in one order. Quadratic, behind what both begin and end with.
std::vector<std::pair<std::size_t, std::size_t>> common_rules(const std::vector<std::string>& before,
                                                              const std::vector<std::string>& after) {
  const std::size_t rows = before.size();
  const std::size_t columns = after.size();
  std::vector<std::vector<std::uint32_t>> longest(rows + 1, std::vector<std::uint32_t>(columns + 1));
  for (std::size_t i = rows; i-- > 0;) {
    for (std::size_t j = columns; j-- > 0;) {
      longest[i][j] =
          before[i] == after[j] ? longest[i + 1][j + 1] + 1 : std::max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  std::vector<std::pair<std::size_t, std::size_t>> common;
  for (std::size_t i = 0, j = 0; i < rows && j < columns;) {
    if (before[i] == after[j]) {
      common.emplace_back(i++, j++);
    } else if (longest[i + 1][j] >= longest[i][j + 1]) {
      ++i;
    } else {
      ++j;
    }
  }
  return common;
}

std::vector<ConfigurationDifference::Rule> compare_rules(const std::vector<std::string>& before,
                                                         const std::vector<std::string>& after) {
  std::vector<bool> kept_before(before.size());
  std::vector<bool> kept_after(after.size());
  for (const auto& [i, j] : common_rules(before, after)) kept_before[i] = kept_after[j] = true;
  std::vector<ConfigurationDifference::Rule> differences;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!kept_before[i]) differences.push_back({.text = before[i], .before = i + 1, .after = 0});
  }
  for (std::size_t j = 0; j < after.size(); ++j) {
    if (kept_after[j]) continue;
    const auto moved = std::ranges::find_if(
        differences, [&](const auto& rule) { return rule.before != 0 && rule.after == 0 && rule.text == after[j]; });
    if (moved != differences.end()) {
      moved->after = j + 1;
    } else {
      differences.push_back({.text = after[j], .before = 0, .after = j + 1});
    }
  }
  return differences;
}

std::vector<ConfigurationDifference::Group> compare_groups(const std::map<std::string, GroupDescription>& before,
                                                           const std::map<std::string, GroupDescription>& after) {
  std::vector<ConfigurationDifference::Group> differences;
  auto all = before;
  all.insert(after.begin(), after.end());
  for (const auto& [name, ignored] : all) {
    const auto was = before.find(name);
    const auto will_be = after.find(name);
    ConfigurationDifference::Group group{
        .name = name, .was = was != before.end(), .will_be = will_be != after.end(), .changed = {}};
    // The group of the setting `upstream` is told of as a setting; only its secrets are here.
    const bool by_setting = (group.was ? was : will_be)->second.settings.empty();
    if (group.was != group.will_be && by_setting) continue;
    if (group.was && group.will_be) {
      auto settings = was->second.settings;
      settings.insert(will_be->second.settings.begin(), will_be->second.settings.end());
      for (const auto& [key, value] : settings) {
        const auto one = was->second.settings.find(key);
        const auto other = will_be->second.settings.find(key);
        const bool same = one != was->second.settings.end() && other != will_be->second.settings.end() &&
                          one->second == other->second;
        if (!same) group.changed.push_back(key);
      }
      if (group.changed.empty() && was->second.secrets != will_be->second.secrets)
        group.changed.emplace_back("password");
      if (group.changed.empty()) continue;
    }
    differences.push_back(std::move(group));
  }
  return differences;
}

}  // namespace

ConfigurationDescription describe(const Configuration& configuration) {
  ConfigurationDescription description;
  for (const Rule& rule : configuration.rules) description.rules.push_back(rule.text);
  for (const auto& [name, set] : configuration.sets.addresses)
    description.sets[name] = {.holds_networks = true, .size = set->ranges().size(), .fingerprint = set->fingerprint()};
  for (const auto& [name, set] : configuration.sets.domains)
    description.sets[name] = {.holds_networks = false, .size = set->size(), .fingerprint = set->fingerprint()};
  for (const auto& [name, set] : configuration.places)
    description.sets[name] = {.holds_networks = true, .size = set->ranges().size(), .fingerprint = set->fingerprint()};
  return description;
}

std::string to_json(const ConfigurationDescription& description) {
  ordered_json sets = ordered_json::object();
  for (const auto& [name, set] : description.sets) {
    sets[name] = {
        {"kind", set.holds_networks ? "networks" : "domains"}, {"size", set.size}, {"fingerprint", set.fingerprint}};
  }
  auto settings = description.settings;
  for (auto& [key, values] : settings) {
    for (std::string& value : values) value = without_secrets(key, value);
  }
  ordered_json groups = ordered_json::object();
  for (const auto& [name, group] : description.groups)
    groups[name] = {{"settings", group.settings}, {"secrets", group.secrets}};
  const ordered_json json = {
      {"schema", 1},  {"settings", settings}, {"typed", description.typed}, {"rules", description.rules},
      {"sets", sets}, {"groups", groups}};
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Result<ConfigurationDescription> parse_description(std::string_view text) {
  try {
    const auto json = ordered_json::parse(text);
    ConfigurationDescription description;
    json.at("settings").get_to(description.settings);
    json.at("typed").get_to(description.typed);
    json.at("rules").get_to(description.rules);
    for (const auto& [name, set] : json.at("sets").items()) {
      description.sets[name] = {.holds_networks = set.at("kind") == "networks",
                                .size = set.at("size").get<std::size_t>(),
                                .fingerprint = set.at("fingerprint").get<std::uint64_t>()};
    }
    const auto groups = json.value("groups", ordered_json::object());
    for (const auto& [name, group] : groups.items()) {
      auto& read = description.groups[name];
      group.at("settings").get_to(read.settings);
      read.secrets = group.at("secrets").get<std::uint64_t>();
    }
    return description;
  } catch (const ordered_json::exception& error) {
    return failure("read", "the configuration of the instance", error.what(), "is it another version of Limpid?");
  }
}

ConfigurationDifference compare(const ConfigurationDescription& before, const ConfigurationDescription& after) {
  ConfigurationDifference difference;
  difference.rules = compare_rules(before.rules, after.rules);
  auto settings = before.settings;
  settings.insert(after.settings.begin(), after.settings.end());
  const auto value = [](const auto& map, const std::string& key) {
    const auto found = map.find(key);
    return found == map.end() ? std::vector<std::string>() : found->second;
  };
  for (const auto& [key, ignored] : settings) {
    if (std::ranges::find(before.typed, key) != before.typed.end()) continue;
    auto was = value(before.settings, key);
    auto will_be = value(after.settings, key);
    if (was != will_be)
      difference.settings.push_back({.key = key, .before = std::move(was), .after = std::move(will_be)});
  }
  auto sets = before.sets;
  sets.insert(after.sets.begin(), after.sets.end());
  for (const auto& [name, ignored] : sets) {
    const auto was = before.sets.find(name);
    const auto will_be = after.sets.find(name);
    if (was != before.sets.end() && will_be != after.sets.end() && was->second == will_be->second) continue;
    difference.sets.push_back({.name = name,
                               .was = was != before.sets.end(),
                               .will_be = will_be != after.sets.end(),
                               .size_before = was != before.sets.end() ? was->second.size : 0,
                               .size_after = will_be != after.sets.end() ? will_be->second.size : 0});
  }
  difference.groups = compare_groups(before.groups, after.groups);
  return difference;
}

}  // namespace limpid
