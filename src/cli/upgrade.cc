// limpid upgrade: makes a running instance hand over to the program as it is on disk now, and says what came of it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/plural.h"
#include "base/terminal_text.h"
#include "cli/control_flags.h"
#include "cli/duration.h"
#include "cli/verb.h"

namespace limpid {
namespace {

/// The instance answers within a minute, whatever happens.
constexpr std::chrono::seconds kPatience{90};

struct UpgradeFlags : ControlFlags {
  std::string timeout;
};

int upgrade(const UpgradeFlags& flags) {
  std::string order;
  if (!flags.timeout.empty()) {
    const auto timeout = parse_duration("--timeout", flags.timeout);
    if (!timeout) return report(timeout.error());
    order = fmt::format(R"({{"timeout_ms":{}}})", timeout->count());
  }
  const auto answer = ask_instance(flags, "POST", "/v1/upgrade", order, kPatience);
  if (!answer) return report(answer.error());
  if (!answer->ok()) return report(refusal(*answer, "upgrade", flags));
  const auto json = nlohmann::ordered_json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return report(
        failure("upgrade", flags.name, "its answer makes no sense", "is it another version of Limpid?").error());
  if (flags.json) {
    fmt::print("{}\n", json.dump(2));
    return kExitDone;
  }
  const auto number = [&](const char* key) { return json.value(key, std::uint64_t{0}); };
  fmt::print("upgraded: process {} has taken over {} and {}, which stood still for {:.1f} ms\n", number("pid"),
             counted(number("flows"), "flow"), counted(number("udp_sessions"), "UDP session"),
             static_cast<double>(number("pause_us")) / 1000);
  if (const auto stays = number("stays"); stays > 0)
    fmt::print("{} cannot be moved, and {} served to the end by the old process\n", counted(stays, "flow"),
               stays == 1 ? "is" : "are");
  return kExitDone;
}

}  // namespace

void add_upgrade_verb(CLI::App& app, Action& action) {
  auto* verb =
      app.add_subcommand("upgrade", "Replace a running instance by the program on disk, without losing a flow");
  auto flags = std::make_shared<UpgradeFlags>();
  add_control_flags(*verb, *flags);
  verb->add_option("--timeout", flags->timeout,
                   "How long the new process may take to get ready; at most 50s (default: 45s)")
      ->type_name("TIME");
  verb->callback([flags, &action] { action = [flags] { return upgrade(*flags); }; });
}

}  // namespace limpid
