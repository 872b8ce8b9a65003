// limpid: reads the command line and hands over to one verb.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "cli/verb.h"
#include "limpid/version.h"

namespace {

constexpr const char* kFirstSteps = R"(limpid: transparent proxying for Linux

  limpid lab demo            see it work in a network of its own; changes nothing on this host
  limpid run --tcp 80,443    take forwarded connections to these ports and relay them
  limpid rules show --tcp 80 --listen-port 3129
                             show what another proxy needs from the kernel

Every command has --help. `limpid --help` lists them all.
)";

int run(int argc, char** argv) {
  CLI::App app{
      "Transparent proxying for Linux: takes connections that are addressed to somebody else, relays them, and\n"
      "speaks to the other side as somebody else, without rewriting an address.",
      "limpid"};
  app.set_version_flag("--version", std::string("limpid ") + limpid::kVersion);
  app.set_help_all_flag("--help-all", "Help of every command");
  app.get_formatter()->column_width(34);
  app.require_subcommand(1);
  limpid::Action action;
  limpid::add_run_verb(app, action);
  limpid::add_rules_verb(app, action);
  limpid::add_lab_verb(app, action);
  limpid::add_completion_verb(app, action);
  if (argc < 2) {
    std::fputs(kFirstSteps, stderr);
    return limpid::kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return app.exit(version);
  } catch (const CLI::RequiredError& error) {
    // CLI11 looks for a missing subcommand before it looks at words that it does not know.
    if (argc > 1 && app.get_subcommands().empty()) {
      return limpid::report(limpid::usage_error("", argv[1], "no such command or option", "see limpid --help").error());
    }
    return limpid::report(limpid::usage_error("", "", error.what(), "see limpid --help").error());
  } catch (const CLI::ParseError& error) {
    return limpid::report(limpid::usage_error("", "", error.what(), "see limpid --help").error());
  }
  return action();
}

}  // namespace

int main(int argc, char** argv) {
  // Our own code throws nothing; this is for the libraries' std::bad_alloc and their like.
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "limpid: %s\n", error.what());
    return limpid::kExitFailure;
  }
}
