// limpid run: the main job, from flags, a configuration, or both.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/config_flags.h"
#include "cli/run_flags.h"
#include "cli/verb.h"
#include "service/service.h"

namespace limpid {
namespace {

struct RunRequest {
  std::shared_ptr<RunFlags> flags = std::make_shared<RunFlags>();
  std::string config;
  bool dry_run = false;
};

/// `verb`: as the command line was parsed; what it says wins over the configuration.
int run(const RunRequest& request, const CLI::App& verb) {
  auto options = request.config.empty() ? parse_run_flags(*request.flags) : Result<ServiceOptions>(ServiceOptions{});
  if (!request.config.empty()) {
    const auto file = configuration_at(request.config);
    if (!file) return report(file.error());
    auto loaded = load_service(*file, verb);
    if (!loaded) return report_all(loaded.error());
    for (const Error& warning : loaded->warnings) fmt::print(stderr, "limpid: warning: {}\n", warning.message());
    options = std::move(loaded->options);
  }
  if (!options) return report(options.error());
  if (options->dns_hint && !options->load)
    return report(usage_error("--dns-hint", "", "there are no rules that could ask for a name",
                              "write them into a configuration (-c FILE), or leave it out")
                      .error());
  if (request.dry_run) {
    const auto text = describe_service(*options);
    if (!text) return report(text.error());
    std::fputs(text->c_str(), stdout);
    return kExitDone;
  }
  const auto served = run_service(*options);
  return served ? kExitDone : report(served.error());
}

}  // namespace

void add_run_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("run", "Intercept forwarded connections and relay them, in one foreground process");
  auto request = std::make_shared<RunRequest>();
  add_run_flags(*verb, request->flags);
  verb->add_option("-c,--config", request->config, "Read settings and rules from this file, and from conf.d beside it")
      ->type_name("FILE");
  verb->add_flag("--dry-run", request->dry_run, "Print what would be installed, as commands, and change nothing");
  verb->callback([request, verb, &action] { action = [request, verb] { return run(*request, *verb); }; });
}

}  // namespace limpid
