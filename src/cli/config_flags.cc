// A second parser with the same flags reads the settings as words of a command line.
#include "cli/config_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "cli/parse_errors.h"
#include "cli/run_flags.h"
#include "cli/upstream_sections.h"
#include "cli/upstream_values.h"
#include "cli/verb.h"
#include "config/description.h"
#include "policy/rule_boxes.h"
#include "relay/dns_watch.h"
#include "service/bypass.h"

namespace limpid {
namespace {

/// Not settings: they are about the file itself, or about one call of the program.
constexpr std::array<std::string_view, 4> kNoSettings{"config", "dry-run", "help", "help-all"};

Error at(const Place& place, std::string_view field, std::string_view cause, std::string_view remedy) {
  return usage_error(place.to_string(), field, cause, remedy).error();
}

/// What takes the place of a setting that is wrong, so that others that mean nothing without it are not blamed; those that are not here are left out.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kStandIns{
    {{"tcp", "80"}, {"udp", "53"}, {"upstream", "direct://"}, {"cut-through", "auto"}}};

/// Which setting an error about a flag is about; nullptr: none. A longer name wins: "--upstream" begins "--upstream-check" as well.
const Setting* blamed(const Error& error, const Configuration& configuration) {
  const Setting* found = nullptr;
  for (const Setting& setting : configuration.settings) {
    const std::string flag = "--" + setting.key;
    const bool names_it = error.operation == flag || error.operation.starts_with(flag + " ") ||
                          error.object.starts_with(flag) || error.cause.starts_with(flag + ":");
    if (names_it && (found == nullptr || setting.key.size() > found->key.size())) found = &setting;
  }
  return found;
}

/// An error about a flag, said of the line that has set it.
Error relocated(const Error& error, const Setting& setting) {
  const std::string object = error.object.empty() ? setting.key : fmt::format("{} = {}", setting.key, error.object);
  return at(setting.place, object, error.cause, error.remedy);
}

class ServiceLoader {
 public:
  explicit ServiceLoader(const CLI::App& typed) : typed_(typed) {
    auto* verb = known_.add_subcommand("run");
    add_run_flags(*verb, std::make_shared<RunFlags>());
    verb_ = verb;
  }

  std::expected<LoadedService, std::vector<Error>> load(const std::string& file) {
    auto read = read_configuration(file);
    errors_ = std::move(read.errors);
    if (!read.is_complete) return std::unexpected(std::move(errors_));
    LoadedService loaded{.configuration = std::move(read.configuration), .options = {}, .warnings = {}, .notes = {}};
    add_settings(loaded.configuration);
    add_typed();
    parse(loaded);
    read_groups(loaded);
    check_rules(loaded);
    if (errors_.empty()) check_bypass(loaded);
    if (!errors_.empty()) return std::unexpected(std::move(errors_));
    loaded.options.rules = loaded.configuration.rules;
    loaded.options.settings = settings_;
    loaded.options.config_file = file;
    loaded.options.description = to_json(describe_service(loaded));
    loaded.options.load = [file, typed = &typed_]() -> std::expected<ServiceOptions, std::vector<Error>> {
      auto again = load_service(file, *typed);
      if (!again) return std::unexpected(std::move(again.error()));
      return std::move(again->options);
    };
    return loaded;
  }

 private:
  [[nodiscard]] bool is_typed(const std::string& flag) const {
    const auto* option = typed_.get_option_no_throw(flag);
    return option != nullptr && option->count() > 0;
  }

  void add_settings(const Configuration& configuration) {
    for (const Setting& setting : configuration.settings) {
      const std::string flag = "--" + setting.key;
      if (is_rule_setting(setting.key)) {
        if (setting.is_switch || setting.values.size() != 1)
          errors_.push_back(at(setting.place, setting.key, "it takes one file",
                               fmt::format("write {} = \"/var/lib/GeoIP/FILE.mmdb\"", setting.key)));
        settings_[setting.key] = setting.values;
        continue;
      }
      const auto* option =
          std::ranges::find(kNoSettings, setting.key) == kNoSettings.end() ? verb_->get_option_no_throw(flag) : nullptr;
      if (option == nullptr) {
        errors_.push_back(at(setting.place, setting.key, "there is no such setting",
                             "settings are the flags of limpid run without their dashes; see limpid run --help"));
      } else if ((option->get_items_expected_max() == 0) != setting.is_switch) {
        errors_.push_back(setting.is_switch ? at(setting.place, setting.key, "it takes a value, not true or false",
                                                 fmt::format("write {} = \"{}\"", setting.key, option->get_type_name()))
                                            : at(setting.place, setting.key, "it takes true or false",
                                                 fmt::format("write {} = true", setting.key)));
      } else if (std::ranges::find(setting.values, std::string()) != setting.values.end()) {
        errors_.push_back(at(setting.place, setting.key, "it is empty", "give it a value, or leave the line out"));
      } else if (!is_typed(flag)) {
        if (!setting.values.empty()) settings_[setting.key] = setting.values;
        for (const std::string& value : setting.values)
          words_.emplace_back(setting.key, setting.is_switch ? flag : fmt::format("{}={}", flag, value));
      }
    }
  }

  void add_typed() {
    for (const CLI::Option* option : typed_.get_options()) {
      const auto& names = option->get_lnames();
      if (option->count() == 0 || names.empty() || std::ranges::find(kNoSettings, names.front()) != kNoSettings.end())
        continue;
      typed_flags_.push_back(names.front());
      settings_[names.front()] = option->results();
      for (const std::string& value : option->results()) {
        words_.emplace_back(names.front(), option->get_items_expected_max() == 0
                                               ? "--" + names.front()
                                               : fmt::format("--{}={}", names.front(), value));
      }
    }
  }

  /// Until nothing is wrong any more: each setting that is, is told, and left out of the next attempt.
  void parse(LoadedService& loaded) {
    for (std::vector<std::string> wrong;;) {
      auto options = try_parse();
      if (options) {
        loaded.options = std::move(*options);
        return;
      }
      const Setting* setting = blamed(options.error(), loaded.configuration);
      if (setting != nullptr && is_typed("--" + setting->key)) setting = nullptr;
      if (setting == nullptr || std::ranges::find(wrong, setting->key) != wrong.end()) {
        // Behind others it may be their consequence.
        if (wrong.empty()) errors_.push_back(std::move(options.error()));
        return;
      }
      errors_.push_back(relocated(options.error(), *setting));
      wrong.push_back(setting->key);
      std::erase_if(words_, [&](const auto& word) { return word.first == setting->key; });
      const auto* stand_in = std::ranges::find(kStandIns, setting->key, [](const auto& pair) { return pair.first; });
      if (stand_in != kStandIns.end())
        words_.emplace_back(setting->key, fmt::format("--{}={}", stand_in->first, stand_in->second));
    }
  }

  Result<ServiceOptions> try_parse() const {
    CLI::App app("", "limpid");
    const auto flags = std::make_shared<RunFlags>();
    add_run_flags(*app.add_subcommand("run"), flags);
    std::vector<std::string> ordered{"run"};
    for (const auto& [key, word] : words_) ordered.push_back(word);
    std::vector<char*> raw;
    raw.reserve(ordered.size());
    for (std::string& word : ordered) raw.push_back(word.data());
    try {
      // CLI11 takes words from the back.
      app.parse(std::vector<std::string>(ordered.rbegin(), ordered.rend()));
    } catch (const CLI::ParseError& error) {
      return std::unexpected(explain(error, app, raw));
    }
    return parse_run_flags(*flags);
  }

  void read_groups(LoadedService& loaded) {
    const auto& sections = loaded.configuration.groups;
    auto& groups = loaded.options.upstreams;
    const std::size_t before = errors_.size();
    for (const GroupSettings& section : sections) {
      groups.emplace_back();
      const auto wrong = read_upstream_section(section, groups.back());
      errors_.insert(errors_.end(), wrong.begin(), wrong.end());
    }
    if (errors_.size() != before) return;
    const auto wrong = check_upstream_sections(sections, groups);
    errors_.insert(errors_.end(), wrong.begin(), wrong.end());
  }

  [[nodiscard]] bool has_group(const Configuration& configuration, std::string_view name) const {
    return std::ranges::find(configuration.groups, name, &GroupSettings::name) != configuration.groups.end() ||
           (name == "upstream" && (configuration.find("upstream") != nullptr || is_typed("--upstream")));
  }

  void check_rules(LoadedService& loaded) {
    const Configuration& configuration = loaded.configuration;
    for (std::size_t number = 0; number < configuration.rules.size(); ++number) {
      const Rule& rule = configuration.rules[number];
      if (rule.action != FlowAction::via || has_group(configuration, rule.group)) continue;
      errors_.push_back(
          at(configuration.rule_places[number], fmt::format("\"{}\"", rule.text),
             fmt::format("there is no group of upstreams '{}'", rule.group),
             rule.group == "upstream"
                 ? std::string("add upstream = [\"socks5://HOST:PORT\"]")
                 : fmt::format("add [upstreams.{}], with servers = [\"socks5://HOST:PORT\"]", rule.group)));
    }
    for (const RuleFlaw& flaw : find_flaws(configuration.rules, configuration.rule_numbers)) {
      const Error error = at(configuration.rule_places[flaw.rule],
                             fmt::format("\"{}\"", configuration.rules[flaw.rule].text), flaw.cause, flaw.remedy);
      (flaw.never_matches ? errors_ : loaded.warnings).push_back(error);
    }
    for (const GroupSettings& section : configuration.groups) {
      const bool is_used =
          std::ranges::find(configuration.rules, section.name, &Rule::group) != configuration.rules.end() ||
          std::ranges::find(loaded.options.upstreams, section.name, &UpstreamGroupOptions::via) !=
              loaded.options.upstreams.end();
      if (!is_used)
        loaded.warnings.push_back(at(section.place, fmt::format("upstreams.{}", section.name),
                                     "nothing goes through it",
                                     fmt::format("add a rule: CONDITION -> via({})", section.name)));
    }
  }

  [[nodiscard]] ConfigurationDescription describe_service(const LoadedService& loaded) const {
    auto description = describe(loaded.configuration);
    description.settings = settings_;
    for (std::string& url : description.settings["upstream"]) url = without_password(url);
    if (description.settings["upstream"].empty()) description.settings.erase("upstream");
    description.typed = typed_flags_;
    for (const UpstreamGroupOptions& group : loaded.options.upstreams) {
      const auto section = std::ranges::find(loaded.configuration.groups, group.name, &GroupSettings::name);
      description.groups[group.name] = section != loaded.configuration.groups.end()
                                           ? describe_section(*section, group)
                                           : GroupDescription{.settings = {}, .secrets = fingerprint_of_secrets(group)};
    }
    return description;
  }

  /// What is no mistake, but not as fast as it could be.
  void check_bypass(LoadedService& loaded) {
    const Configuration& configuration = loaded.configuration;
    Scope scope = loaded.options.interception.scope;
    for (const RelayedBypass& bypass :
         apply_bypass(configuration.rules, scope, most_bypass_networks(loaded.options.interception.backends))) {
      loaded.notes.push_back(at(configuration.rule_places[bypass.rule],
                                fmt::format("\"{}\"", configuration.rules[bypass.rule].text),
                                fmt::format("obeyed by relaying directly, not in the kernel: {}", bypass.cause), ""));
    }
    const bool has_dns = scope.udp.contains(kDnsPort) || scope.tcp.contains(kDnsPort);
    const Setting* hint = configuration.find("dns-hint");
    if (loaded.options.dns_hint && !has_dns)
      loaded.warnings.push_back(at(hint != nullptr ? hint->place : Place{.file = configuration.files.front()},
                                   "dns-hint",
                                   "no DNS passes through: port 53 is not intercepted, so no name is ever learnt",
                                   "add 53 to udp and tcp, without a bypass, or leave dns-hint out"));
    if (is_empty(scope))
      errors_.push_back(at({.file = configuration.files.front()}, "rules",
                           "they bypass everything that would be intercepted",
                           "intercept more, or leave a bypass rule out"));
  }

  const CLI::App& typed_;
  CLI::App known_{"", "limpid"};  ///< to ask which flags there are
  CLI::App* verb_ = nullptr;
  std::vector<std::pair<std::string, std::string>> words_;    ///< of a command line, each with the setting that it is
  std::map<std::string, std::vector<std::string>> settings_;  ///< what they say, by flag
  std::vector<std::string> typed_flags_;
  std::vector<Error> errors_;
};

}  // namespace

Result<std::string> configuration_at(const std::string& typed) {
  std::error_code code;
  const std::filesystem::path path(typed);
  if (!std::filesystem::is_directory(path, code)) return typed;
  const auto main = path / "limpid.toml";
  if (std::filesystem::exists(main, code)) return main.string();
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(path, code)) {
    if (entry.path().extension() == ".toml") found.push_back(entry.path().string());
  }
  if (found.size() == 1) return found.front();
  std::ranges::sort(found);
  return usage_error("--config", typed, "this directory has no limpid.toml",
                     found.empty() ? "name a configuration's file, or the directory of one"
                                   : fmt::format("name one of its files, for example {}; they can be parts of one "
                                                 "configuration as conf.d/*.toml beside a limpid.toml",
                                                 found.front()));
}

std::expected<LoadedService, std::vector<Error>> load_service(const std::string& file, const CLI::App& verb) {
  return ServiceLoader(verb).load(file);
}

int report_all(const std::vector<Error>& errors) {
  for (const Error& error : errors) report(error);
  return errors.empty() ? kExitDone : exit_status(errors.front());
}

}  // namespace limpid
