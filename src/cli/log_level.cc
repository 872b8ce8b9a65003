// limpid log-level: says from which level on a running instance logs, or changes it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/log.h"
#include "base/terminal_text.h"
#include "cli/control_flags.h"
#include "cli/flag_values.h"
#include "cli/verb.h"

namespace limpid {
namespace {

struct LogLevelFlags {
  ControlFlags instance;
  std::string level;
};

int log_level(const LogLevelFlags& flags) {
  const bool change = !flags.level.empty();
  if (change && !parse_log_level(flags.level))
    return report(wrong("log-level", flags.level, "there is no such level", "debug, info, warning or error").error());
  const std::string body = change ? nlohmann::ordered_json({{"level", flags.level}})
                                        .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
                                  : std::string();
  const auto answer = fetch(flags.instance, change ? "PUT" : "GET", "/v1/log-level", body);
  if (!answer) return report(answer.error());
  if (flags.instance.json) {
    fmt::print("{}\n", answer->dump(2));
  } else {
    fmt::print("{}\n", for_terminal(answer->is_object() ? answer->value("level", "-") : "-"));
  }
  return kExitDone;
}

}  // namespace

void add_log_level_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("log-level", "Say how much a running instance logs, or change it");
  auto flags = std::make_shared<LogLevelFlags>();
  verb->add_option("level", flags->level, "debug, info, warning or error; not given: only say it")->type_name("LEVEL");
  add_control_flags(*verb, flags->instance);
  verb->callback([flags, &action] { action = [flags] { return log_level(*flags); }; });
}

}  // namespace limpid
