// Rules are compared as diff(1) does: the longest common subsequence stays, the rest was removed, added, or, with the same text on both sides, moved. Memory and time are those
// of the rules and their pairs of the same text (Hunt and Szymanski 1977), not of the product of both lists.
#include "config/description.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "config/redaction.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

using RulePlaces = std::unordered_map<std::string_view, std::vector<std::size_t>>;

/// So many pairs of rules with the same text are looked at; real lists have about one for each rule.
constexpr std::size_t kMostPairs = 1'000'000;

/// Where each text stands, from 0.
RulePlaces places_of(const std::vector<std::string>& rules) {
  RulePlaces places;
  for (std::size_t i = 0; i < rules.size(); ++i) places[rules[i]].push_back(i);
  return places;
}

struct RulePair {
  std::size_t before;
  std::size_t after;
};

/// Pairs of rules with the same text, by their place before, and for each of those from the last place after to the first: a subsequence whose places after grow has each rule
/// once. Where there would be too many, the first of a text is paired with the first only, the second with the second, and so on.
std::vector<RulePair> pairs_of(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  const RulePlaces places = places_of(after);
  std::size_t count = 0;
  for (const std::string& rule : before) {
    const auto found = places.find(rule);
    count += found == places.end() ? 0 : found->second.size();
  }
  std::vector<RulePair> pairs;
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const auto found = places.find(before[i]);
    if (found == places.end()) continue;
    const auto& there = found->second;
    if (count <= kMostPairs) {
      for (std::size_t j = there.size(); j-- > 0;) pairs.push_back({.before = i, .after = there[j]});
    } else if (const std::size_t nth = seen[before[i]]++; nth < there.size()) {
      pairs.push_back({.before = i, .after = there[nth]});
    }
  }
  return pairs;
}

/// Places of rules, from 0, that both lists have in one order: of the pairs, the longest subsequence whose places after grow.
std::vector<RulePair> common_rules(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  constexpr auto kNone = static_cast<std::size_t>(-1);
  const std::vector<RulePair> pairs = pairs_of(before, after);
  std::vector<std::size_t> ends;  ///< by length less one: the pair by which a subsequence of that length ends earliest
  std::vector<std::size_t> previous(pairs.size(), kNone);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto place =
        std::ranges::lower_bound(ends, pairs[i].after, {}, [&](std::size_t end) { return pairs[end].after; });
    if (place != ends.begin()) previous[i] = *std::prev(place);
    if (place == ends.end()) {
      ends.push_back(i);
    } else {
      *place = i;
    }
  }
  std::vector<RulePair> common;
  for (std::size_t at = ends.empty() ? kNone : ends.back(); at != kNone; at = previous[at]) common.push_back(pairs[at]);
  return common;
}

std::vector<ConfigurationDifference::Rule> compare_rules(const std::vector<std::string>& before,
                                                         const std::vector<std::string>& after) {
  std::vector<bool> kept_before(before.size());
  std::vector<bool> kept_after(after.size());
  for (const auto& [i, j] : common_rules(before, after)) kept_before[i] = kept_after[j] = true;
  std::vector<ConfigurationDifference::Rule> differences;
  std::unordered_map<std::string_view, std::deque<std::size_t>> gone;  ///< by text: places in `differences`
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (kept_before[i]) continue;
    gone[before[i]].push_back(differences.size());
    differences.push_back({.text = before[i], .before = i + 1, .after = 0});
  }
  for (std::size_t j = 0; j < after.size(); ++j) {
    if (kept_after[j]) continue;
    const auto moved = gone.find(after[j]);
    if (moved != gone.end() && !moved->second.empty()) {
      differences[moved->second.front()].after = j + 1;
      moved->second.pop_front();
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
