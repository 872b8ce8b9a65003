// What every verb of the command line is: it adds itself to the option tree, and runs. One file per verb beside this one.
#pragma once

#include <functional>
#include <string>

#include "limpid/error.h"

namespace CLI {
class App;
}

namespace limpid {

/// Exit statuses, documented in limpid(1).
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnsupported = 3;

/// 1, 2 or 3, by the error's kind.
[[nodiscard]] int exit_status(const Error& error) noexcept;
/// Prints "limpid: message" to stderr and returns exit_status(error).
int report(const Error& error);

/// Whether the user's locale has more characters than ASCII's.
[[nodiscard]] bool shows_unicode();

/// Set by the verb that was chosen while parsing; main() calls it.
using Action = std::function<int()>;

void add_run_verb(CLI::App& app, Action& action);
void add_check_verb(CLI::App& app, Action& action);
void add_diff_verb(CLI::App& app, Action& action);
void add_reload_verb(CLI::App& app, Action& action);
void add_status_verb(CLI::App& app, Action& action);
void add_flows_verb(CLI::App& app, Action& action);
void add_top_verb(CLI::App& app, Action& action);
void add_kill_verb(CLI::App& app, Action& action);
void add_drain_verb(CLI::App& app, Action& action);
void add_upgrade_verb(CLI::App& app, Action& action);
void add_log_level_verb(CLI::App& app, Action& action);
void add_rules_verb(CLI::App& app, Action& action);
void add_doctor_verb(CLI::App& app, Action& action);
void add_lab_verb(CLI::App& app, Action& action);
void add_exec_verb(CLI::App& app, Action& action);
void add_nc_verb(CLI::App& app, Action& action);
void add_relay_verb(CLI::App& app, Action& action);
void add_sysdump_verb(CLI::App& app, Action& action);
void add_explain_verb(CLI::App& app, Action& action);
void add_trace_verb(CLI::App& app, Action& action);
void add_completion_verb(CLI::App& app, Action& action);

}  // namespace limpid
