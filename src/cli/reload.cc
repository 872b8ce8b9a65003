// limpid reload: asks a running instance to read its configuration anew, and says what came of it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/plural.h"
#include "base/terminal_text.h"
#include "cli/control_flags.h"
#include "cli/verb.h"

namespace limpid {
namespace {

/// A reload reads files of a million names.
constexpr std::chrono::seconds kPatience{120};

/// Nobody knows yet what comes of it.
constexpr unsigned kUnavailable = 503;

struct ReloadFlags : ControlFlags {
  bool abort = false;
};

int reload(const ReloadFlags& flags) {
  const auto answer = ask_instance(flags, "POST", "/v1/reload", flags.abort ? R"({"abort":true})" : "", kPatience);
  if (!answer) return report(answer.error());
  if (answer->status == kUnavailable) return report(refusal(*answer, "reload", flags));
  const auto json = nlohmann::ordered_json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("ok") || !json["ok"].is_boolean())
    return report(
        failure("reload", flags.name, "its answer makes no sense", "is it another version of Limpid?").error());
  const bool done = json["ok"];
  if (flags.json) {
    fmt::print("{}\n", json.dump(2));
  } else if (done) {
    fmt::print("reloaded: {}\n", counted(json.value("rules", std::size_t{0}), "rule"));
    if (flags.abort) fmt::print("ended: {} that they forbid\n", counted(json.value("ended", std::size_t{0}), "flow"));
  } else {
    for (const auto& error : json.value("errors", nlohmann::ordered_json::array()))
      fmt::print(stderr, "limpid: {}\n", for_terminal(error.is_string() ? error.get<std::string>() : error.dump()));
    fmt::print(stderr, "limpid: not reloaded: everything is as it was before\n");
  }
  return done ? kExitDone : kExitFailure;
}

}  // namespace

void add_reload_verb(CLI::App& app, Action& action) {
  auto* verb =
      app.add_subcommand("reload", "Make a running instance read its configuration anew, without losing a flow");
  auto flags = std::make_shared<ReloadFlags>();
  add_control_flags(*verb, *flags);
  verb->add_flag("--abort", flags->abort, "End flows at once that the new rules reject or drop");
  verb->callback([flags, &action] { action = [flags] { return reload(*flags); }; });
}

}  // namespace limpid
