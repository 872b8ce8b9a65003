// limpid drain: makes a running instance take no new flows, and waits until it has ended with those that it has.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <tuple>

#include "base/plural.h"
#include "cli/control_flags.h"
#include "cli/duration.h"
#include "cli/verb.h"
#include "control/control_socket.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr std::chrono::milliseconds kPause{100};

struct DrainFlags {
  ControlFlags instance;
  std::string timeout;
  bool no_wait = false;
};

/// The process that keeps the rules has ended, so nobody takes them away at the end.
bool is_abandoned(const ordered_json& status) {
  return status.is_object() && status.contains("plan") && status["plan"].is_object() &&
         status["plan"].value("state", "") == "abandoned";
}

/// Until nobody answers any more. On a terminal it says how many flows are left. False: rules stay, as far as is known (`abandoned`: before).
bool wait_for_end(const DrainFlags& flags, bool abandoned) {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  for (;;) {
    const auto status = fetch(flags.instance, "GET", "/v1/status");
    if (!status || !status->is_object() || status->value("state", "") != "draining") break;
    abandoned = abandoned || is_abandoned(*status);
    if (terminal && status->contains("flows")) {
      fmt::print(stderr, "\rdraining: {} left   ", counted((*status)["flows"].value("tcp", std::uint64_t{0}), "flow"));
      std::fflush(stderr);
    }
    std::this_thread::sleep_for(kPause);
  }
  if (terminal) fmt::print(stderr, "\n");
  return !abandoned;
}

/// The instance could not take its socket away either.
int tell_of_rules(const DrainFlags& flags) {
  const auto& name = flags.instance.name;
  if (!flags.no_wait) std::ignore = remove_stale_socket(control_path(flags.instance));
  return report(failure("drain", fmt::format("instance \"{}\"", name),
                        fmt::format("the process that keeps its rules has ended before, so they {}, and with --fail "
                                    "closed refuse what they capture",
                                    flags.no_wait ? "will stay in the kernel" : "stay in the kernel"),
                        "take them away: limpid rules remove --name " + name)
                    .error());
}

int drain(const DrainFlags& flags) {
  ordered_json body = ordered_json::object();
  if (!flags.timeout.empty()) {
    const auto timeout = parse_duration("--timeout", flags.timeout);
    if (!timeout) return report(timeout.error());
    body["timeout_ms"] = static_cast<std::uint64_t>(timeout->count());
  }
  const auto before = fetch(flags.instance, "GET", "/v1/status");
  const auto answer = fetch(flags.instance, "POST", "/v1/drain", body.dump());
  if (!answer) return report(answer.error());
  const bool abandoned = before && is_abandoned(*before);
  const bool rules_go = flags.no_wait ? !abandoned : wait_for_end(flags, abandoned);
  if (flags.instance.json) {
    fmt::print("{}\n", answer->dump(2));
  } else {
    const auto open = answer->value("flows", std::uint64_t{0});
    fmt::print("{}: {} {} open\n", flags.no_wait ? "draining" : "drained", counted(open, "flow"),
               open == 1 ? "was" : "were");
  }
  return rules_go ? kExitDone : tell_of_rules(flags);
}

}  // namespace

void add_drain_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("drain", "Make a running instance finish the flows that it has, and end");
  auto flags = std::make_shared<DrainFlags>();
  add_control_flags(*verb, flags->instance);
  verb->add_option("--timeout", flags->timeout, "How long they may go on, instead of the instance's --drain-timeout")
      ->type_name("TIME");
  verb->add_flag("--no-wait", flags->no_wait, "Do not wait for the end");
  verb->callback([flags, &action] { action = [flags] { return drain(*flags); }; });
}

}  // namespace limpid
