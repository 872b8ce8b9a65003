// What the doctor finds: a value with a stable id, a severity, and the commands that mend it. Built by the checks,
// printed by report.cc, applied by mend.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace limpid::doctor {

enum class Severity : std::uint8_t {
  ok,
  skipped,  ///< could not be looked at, and why; never a good sign or a bad one
  warning,
  failure,
};

enum class Group : std::uint8_t {
  privileges,
  kernel,
  installation,
  listener,
  routing,
  sysctls,
  firewall,
  limits,
  probe
};

/// "kernel", …: what --only takes and JSON says.
[[nodiscard]] std::string_view name_of(Group group) noexcept;
[[nodiscard]] std::string_view name_of(Severity severity) noexcept;

using Command = std::vector<std::string>;  ///< argument vector; the first word is a program's name

struct Remedy {
  std::vector<Command> commands = {};   ///< in order
  std::vector<std::string> paste = {};  ///< where a shell's own means are needed: to paste only, never run by us
  std::string advice = {};              ///< words for what no command does; may be empty
  bool safe = false;                    ///< --fix may run `commands`: they change what was found and nothing else

  /// Every command, quoted for a shell.
  [[nodiscard]] std::vector<std::string> lines() const;
};

struct Finding {
  Group group = Group::kernel;
  std::string id;  ///< documented in docs/doctor.md
  Severity severity = Severity::ok;
  std::string subject;  ///< the interface, rule or port that is meant; may be empty
  std::string summary;  ///< one line
  Remedy remedy = {};
  bool not_permitted = false;  ///< skipped because privileges are missing
};

using Findings = std::vector<Finding>;

[[nodiscard]] Finding ok(Group group, std::string_view id, std::string summary, std::string subject = {});
[[nodiscard]] Finding skipped(Group group, std::string_view id, std::string summary, std::string subject = {});
[[nodiscard]] Finding warning(Group group, std::string_view id, std::string summary, std::string subject = {},
                              Remedy remedy = {});
[[nodiscard]] Finding failure(Group group, std::string_view id, std::string summary, std::string subject = {},
                              Remedy remedy = {});

/// One command that --fix may run.
[[nodiscard]] Remedy mend(Command command);
/// `sysctl -w KEY=VALUE …`; safe where `safe` says so.
[[nodiscard]] Remedy set_sysctls(const std::vector<std::pair<std::string, std::string>>& values, bool safe = true);
/// Words only.
[[nodiscard]] Remedy advise(std::string advice);

void append(Findings& findings, Findings more);

}  // namespace limpid::doctor
