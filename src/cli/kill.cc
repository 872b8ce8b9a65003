// limpid kill: ends flows of a running instance, by their names or by what they have in common. Both sides get a reset.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/plural.h"
#include "base/terminal_text.h"
#include "cli/control_flags.h"
#include "cli/flow_flags.h"
#include "cli/verb.h"
#include "control/http_client.h"
#include "relay/flow_query.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr unsigned kNotFound = 404;

struct KillFlags {
  ControlFlags instance;
  FlowFlags which;
  std::vector<std::string> ids;
  bool all = false;
  bool yes = false;
};

struct Killed {
  std::vector<std::string> done;
  std::vector<std::string> gone;  ///< before we came
};

Result<Killed> kill_each(const KillFlags& flags, const std::vector<std::string>& ids) {
  Killed killed;
  for (const std::string& id : ids) {
    const auto answer = ask_instance(flags.instance, "DELETE", "/v1/flows/" + percent_encode(id));
    if (!answer) return std::unexpected(answer.error());
    if (answer->ok()) {
      killed.done.push_back(id);
    } else if (answer->status == kNotFound) {
      killed.gone.push_back(id);
    } else {
      return std::unexpected(refusal(*answer, "kill", flags.instance));
    }
  }
  return killed;
}

int print_outcome(const KillFlags& flags, const Killed& killed, bool named) {
  if (flags.instance.json) {
    const ordered_json json = {{"schema", 1}, {"killed", killed.done}, {"gone", killed.gone}};
    fmt::print("{}\n", json.dump(2, ' ', false, ordered_json::error_handler_t::replace));
  } else {
    fmt::print("killed: {}\n", killed.done.size());
    for (const std::string& id : killed.gone)
      if (named) fmt::print(stderr, "limpid: kill {}: there is no such flow, or no more\n", for_terminal(id));
  }
  return named && !killed.gone.empty() ? kExitFailure : kExitDone;
}

int kill_named(const KillFlags& flags) {
  // All of them first: a slip of the pen in one must not leave the others half done.
  for (const std::string& id : flags.ids) {
    if (const auto name = FlowName::parse(id); !name) return report(name.error());
  }
  const auto killed = kill_each(flags, flags.ids);
  return killed ? print_outcome(flags, *killed, true) : report(killed.error());
}

/// Without --yes it only shows whom it would hit.
int kill_matching(const KillFlags& flags) {
  std::vector<std::string> ids;
  const auto listed = for_each_flow(flags.instance, flags.which, [&](const ordered_json& flow) {
    if (!flags.yes && !flags.instance.json) {
      if (ids.empty()) fmt::print("{}\n", flow_table_head());
      fmt::print("{}\n", flow_table_line(flow));
    }
    if (flow.contains("id") && flow["id"].is_string()) ids.push_back(flow["id"].get<std::string>());
    return true;
  });
  if (!listed) return report(listed.error());
  if (!flags.yes) {
    if (flags.instance.json) {
      fmt::print("{}\n", ordered_json({{"schema", 1}, {"would_kill", ids}}).dump(2));
    } else {
      fmt::print("{} would be killed; add --yes to do it\n", counted(ids.size(), "flow"));
    }
    return kExitDone;
  }
  const auto killed = kill_each(flags, ids);
  return killed ? print_outcome(flags, *killed, false) : report(killed.error());
}

int kill(const KillFlags& flags) {
  const bool filtered = !flags.which.empty() || flags.all;
  if (flags.ids.empty() && !filtered)
    return report(usage_error("kill", "", "whom?", "give names that `limpid flows` shows, a filter, or --all").error());
  if (!flags.ids.empty() && filtered)
    return report(usage_error("kill", "", "names and a filter do not go together", "give one of them").error());
  return filtered ? kill_matching(flags) : kill_named(flags);
}

}  // namespace

void add_kill_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("kill", "End flows of a running instance: both sides are reset");
  auto flags = std::make_shared<KillFlags>();
  verb->add_option("id", flags->ids, "Names of flows, as limpid flows shows them")->type_name("ID");
  add_control_flags(*verb, flags->instance);
  add_flow_flags(*verb, flags->which);
  verb->add_flag("--all", flags->all, "Every flow")->group("Which flows");
  verb->add_flag("-y,--yes", flags->yes, "With a filter: do it; without, they are only listed");
  verb->callback([flags, &action] { action = [flags] { return kill(*flags); }; });
}

}  // namespace limpid
