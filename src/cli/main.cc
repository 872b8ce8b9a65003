// limpid: reads the command line and hands over to one verb.
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <system_error>

#include "cli/parse_errors.h"
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
  limpid::add_check_verb(app, action);
  limpid::add_diff_verb(app, action);
  limpid::add_reload_verb(app, action);
  limpid::add_status_verb(app, action);
  limpid::add_flows_verb(app, action);
  limpid::add_top_verb(app, action);
  limpid::add_kill_verb(app, action);
  limpid::add_drain_verb(app, action);
  limpid::add_upgrade_verb(app, action);
  limpid::add_log_level_verb(app, action);
  limpid::add_rules_verb(app, action);
  limpid::add_doctor_verb(app, action);
  limpid::add_sysdump_verb(app, action);
  limpid::add_explain_verb(app, action);
  limpid::add_trace_verb(app, action);
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
  } catch (const CLI::ParseError& error) {
    return limpid::report(limpid::explain(error, app, std::span(argv, static_cast<std::size_t>(argc)).subspan(1)));
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
  } catch (const std::system_error& error) {  // fmt::print() where standard output is full or closed
    return limpid::report(limpid::failure("write", "standard output", error.code().message()).error());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "limpid: %s\n", error.what());
    return limpid::kExitFailure;
  }
}
