// `limpid lab`: runs commands in a client – router – server network of namespaces, and the demonstration.
#include "lab/lab.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "cli/command_words.h"
#include "cli/flag_values.h"
#include "cli/verb.h"
#include "lab/demo.h"
#include "lab/enclosure.h"
#include "lab/environment.h"
#include "net/namespace.h"

namespace limpid {
namespace {

// NOLINTBEGIN(concurrency-mt-unsafe): the lab is built by a process with one thread, which alone reads and sets its
// environment

struct LabFlags {
  std::string host = "client";
  std::string servers = "1";
  std::vector<std::string> command;
};

int execute_in_host(int network_namespace, const std::string& host, const std::vector<std::string>& command) {
  if (auto entered = enter_network_namespace(network_namespace); !entered) return report(entered.error());
  ::setenv(kLabHostVariable, host.c_str(), 1);
  return become(command);
}

// The first process of the lab: builds it, then runs the command in one of its hosts.
int run_first(const Enclosure& enclosure, const LabFlags& flags, unsigned servers) {
  const auto lab = Lab::create({.servers = servers});
  if (!lab) return report(lab.error());
  const LabHost* host = lab->find(flags.host);
  const auto holders = start_holders(*lab);
  if (!holders) return report(holders.error());
  const auto variables = lab_environment(*lab, *holders);
  if (host == nullptr) return report(find_lab_host(variables.front().second, flags.host).error());
  for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  const auto status = enclosure.supervise(
      [&flags, host] { return execute_in_host(host->network_namespace.get(), host->name, flags.command); });
  return status ? *status : report(status.error());
}

int run_lab(LabFlags flags, const CLI::App& verb) {
  auto command = command_of(verb);
  if (!command) return report(command.error());
  flags.command = std::move(*command);
  if (flags.command.empty()) {
    const char* shell = std::getenv("SHELL");
    flags.command = {shell != nullptr && *shell != '\0' ? shell : "/bin/sh"};
  }
  const auto servers = parse_number("--servers", flags.servers, 1, kMostLabServers, "a number of servers");
  if (!servers) return report(servers.error());
  const auto status = run_enclosed(
      [&flags, &servers](const Enclosure& enclosure) { return run_first(enclosure, flags, *servers); }, report);
  return status ? *status : report(status.error());
}

int enter_lab(LabFlags flags, const CLI::App& verb) {
  auto command = command_of(verb);
  if (!command) return report(command.error());
  flags.command = std::move(*command);
  if (flags.command.empty()) {
    return report(usage_error("lab in", flags.host, "no command", "limpid lab in router -- ip addr").error());
  }
  const char* variable = std::getenv(kLabVariable);
  if (variable == nullptr) {
    return report(
        usage_error("lab in", flags.host, "this is not inside a lab", "start with: limpid lab run -- COMMAND").error());
  }
  const auto path = find_lab_host(variable, flags.host);
  if (!path) return report(path.error());
  const UniqueFd network_namespace(::open(path->c_str(), O_RDONLY | O_CLOEXEC));
  if (!network_namespace.valid()) {
    return report(
        system_error(errno, "open", *path, std::string("the lab of ") + kLabVariable + " has ended?").error());
  }
  return execute_in_host(network_namespace.get(), flags.host, flags.command);
}

// NOLINTEND(concurrency-mt-unsafe)

int show_demo() {
  const auto status = run_demo(report);
  return status ? *status : report(status.error());
}

}  // namespace

void add_lab_verb(CLI::App& app, Action& action) {
  auto* lab = app.add_subcommand("lab", "A client - router - server network in namespaces, to try things in");
  lab->require_subcommand(1);
  lab->footer(
      "Needs no root where the kernel allows user namespaces. Nothing of a lab outlives the command that started it.");
  const auto flags = std::make_shared<LabFlags>();

  auto* run =
      lab->add_subcommand("run", "Build a lab, run a command in it (default: your shell), return its exit status");
  run->add_option("--in", flags->host, "Host to run it in: client, router, server, server2, …")
      ->type_name("HOST")
      ->capture_default_str();
  run->add_option("--servers", flags->servers, "Number of servers, 1 to 8")->type_name("N")->capture_default_str();
  take_command(*run, "command", "The command and its arguments, behind --");
  run->callback([flags, run, &action] { action = [flags, run] { return run_lab(*flags, *run); }; });

  auto* in = lab->add_subcommand("in", "Inside a lab: run a command in another of its hosts");
  in->add_option("host", flags->host, "client, router, server, server2, …")->required();
  take_command(*in, "command", "The command and its arguments, behind --");
  in->callback([flags, in, &action] { action = [flags, in] { return enter_lab(*flags, *in); }; });

  auto* demo = lab->add_subcommand("demo", "A client reaches a server through Limpid: watch what happens");
  demo->callback([&action] { action = show_demo; });
}

}  // namespace limpid
