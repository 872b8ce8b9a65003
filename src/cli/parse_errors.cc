// CLI11's exceptions carry finished sentences only. What they are about is looked up in the option tree by their type.
#include "cli/parse_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

#include "cli/flag_values.h"

namespace limpid {
namespace {

constexpr std::string_view kEndOfFlags = "--";

/// A verb of the tree and how to call it: "limpid rules show".
struct Verb {
  const CLI::App* app;
  std::string path = "limpid";

  [[nodiscard]] std::string help() const { return fmt::format("see {} --help", path); }
};

std::vector<const CLI::App*> verbs_below(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// As far as parsing came.
Verb chosen_verb(const CLI::App& app) {
  Verb verb{.app = &app};
  while (!verb.app->get_subcommands().empty()) {
    verb.app = verb.app->get_subcommands().front();
    verb.path += ' ' + verb.app->get_name();
  }
  return verb;
}

/// A verb or an operand. CLI11 looks for a missing verb before it looks at words that it does not know: a word in the
/// verb's place was meant as one.
Error explain_missing(const CLI::RequiredError& error, const CLI::App& app, std::span<char* const> words) {
  Verb verb{.app = &app};
  for (const std::string_view word : words) {
    const auto below = verbs_below(*verb.app);
    if (below.empty()) break;
    const auto found = std::ranges::find(below, word, [](const CLI::App* each) { return each->get_name(); });
    if (found == below.end()) return wrong("", word, "no such command or option", verb.help()).error();
    verb.app = *found;
    verb.path += ' ' + verb.app->get_name();
  }
  const auto below = verbs_below(*verb.app);
  if (!below.empty()) {
    const auto names = below | std::views::transform([](const CLI::App* each) { return each->get_name(); });
    return usage_error(verb.path, "", "no command", fmt::format("one of: {}", fmt::join(names, ", "))).error();
  }
  for (const CLI::Option* option : verb.app->get_options()) {
    if (!option->get_required() || option->count() > 0) continue;
    const auto remedy = fmt::format("{}; {}", option->get_description(), verb.help());
    return usage_error(option->get_name(), "", "missing", remedy).error();
  }
  return usage_error(verb.path, "", error.what(), verb.help()).error();
}

Error explain_extra(const CLI::ExtrasError& error, const CLI::App& app) {
  const Verb verb = chosen_verb(app);
  const auto words = app.remaining(/*recurse=*/true);
  const auto word = std::ranges::find_if(words, [](const std::string& each) { return each != kEndOfFlags; });
  if (word == words.end()) return usage_error("", "", error.what(), verb.help()).error();
  const bool is_flag = word->starts_with('-') && word == words.begin();
  return wrong("", *word, is_flag ? "no such option" : "one argument too many", verb.help()).error();
}

/// An option without its value, or more than once.
Error explain_mismatch(const CLI::ArgumentMismatch& error, const CLI::App& app, std::span<char* const> words) {
  const Verb verb = chosen_verb(app);
  const std::string_view what = error.what();
  for (const CLI::Option* option : verb.app->get_options()) {
    if (!what.starts_with(option->get_name() + ':')) continue;
    // The last: whatever stands before it had its value. As typed: an option may have several names.
    const auto typed = std::ranges::find_if(
        words | std::views::reverse, [option](std::string_view word) { return option->check_name(std::string(word)); });
    const std::string name = typed == words.rend() ? option->get_name() : *typed;
    if (option->count() > 1) return usage_error(name, "", "given twice", "leave one of them out").error();
    return usage_error(name, "", option->get_type_name() + " missing", verb.help()).error();
  }
  return usage_error("", "", what, verb.help()).error();
}

}  // namespace

Error explain(const CLI::ParseError& error, const CLI::App& app, std::span<char* const> words) {
  if (const auto* missing = dynamic_cast<const CLI::RequiredError*>(&error)) {
    return explain_missing(*missing, app, words);
  }
  if (const auto* extra = dynamic_cast<const CLI::ExtrasError*>(&error)) return explain_extra(*extra, app);
  if (const auto* mismatch = dynamic_cast<const CLI::ArgumentMismatch*>(&error)) {
    return explain_mismatch(*mismatch, app, words);
  }
  return usage_error("", "", error.what(), chosen_verb(app).help()).error();
}

}  // namespace limpid
