// limpid: reads the command line and hands over to one verb.
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <string_view>

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

/// CLI11 looks for a missing subcommand before it looks at words that it does not know: say which word was meant as
/// one.
limpid::Error explain_missing(CLI::App& app, std::span<char* const> words, const CLI::RequiredError& error) {
  const CLI::App* verb = &app;
  std::string path = "limpid";
  for (const std::string_view word : words.subspan(1)) {
    const auto verbs = verb->get_subcommands([](const CLI::App*) { return true; });
    if (verbs.empty()) break;
    const auto found = std::ranges::find(verbs, word, [](const CLI::App* each) { return each->get_name(); });
    if (found == verbs.end()) {
      return limpid::usage_error("", word, "no such command or option", "see " + path + " --help").error();
    }
    verb = *found;
    path += ' ' + verb->get_name();
  }
  return limpid::usage_error("", path, error.what(), "see " + path + " --help").error();
}

/// "limpid rules show": as far as parsing came.
std::string chosen_verb(const CLI::App& app) {
  std::string path = "limpid";
  for (const CLI::App* verb = &app; !verb->get_subcommands().empty();) {
    verb = verb->get_subcommands().front();
    path += ' ' + verb->get_name();
  }
  return path;
}

/// A program that is started with a standard descriptor closed would give its number to the next socket, and write its messages there.
void occupy_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    // open(2) takes the lowest free number: this very one.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) std::abort();
  }
}

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
  limpid::add_exec_verb(app, action);
  limpid::add_nc_verb(app, action);
  limpid::add_relay_verb(app, action);
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
    return limpid::report(explain_missing(app, std::span(argv, static_cast<std::size_t>(argc)), error));
  } catch (const CLI::ParseError& error) {
    return limpid::report(limpid::usage_error("", "", error.what(), "see " + chosen_verb(app) + " --help").error());
  }
  const int status = action();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return limpid::report(limpid::failure("write", "standard output", "not all of it could be written").error());
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  // Our own code throws nothing; this is for the libraries' std::bad_alloc and their like.
  occupy_standard_descriptors();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "limpid: %s\n", error.what());
    return limpid::kExitFailure;
  }
}
