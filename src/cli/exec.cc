// `limpid exec`: becomes a program whose sockets may have addresses that this host does not.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/command_words.h"
#include "cli/flag_values.h"
#include "cli/verb.h"
#include "exec/launch.h"
#include "exec/user.h"
#include "net/resolve.h"

namespace limpid {
namespace {

struct ExecFlags {
  bool transparent = false;
  std::vector<std::string> bind_source;
  bool udp = false;
  std::optional<std::string> mark;
  std::string user;
};

Status add_source(const std::string& text, ExecOptions& options) {
  const auto address = IpAddress::parse(without_brackets(text));
  if (!address) return usage_error("--bind-source", text, address.error().cause, address.error().remedy);
  if (address->is_unspecified() || address->is_multicast() || address->is_broadcast()) {
    return usage_error("--bind-source", text, "nothing can be sent from this address");
  }
  if (address->family() == Family::ipv6 && address->is_link_local()) {
    return usage_error("--bind-source", text, "a link-local address means nothing without its link");
  }
  auto& source = address->family() == Family::ipv4 ? options.source_ipv4 : options.source_ipv6;
  if (source) {
    return usage_error("--bind-source", text,
                       std::string("a second ") + std::string(to_string(address->family())) + " address",
                       "give one for each family");
  }
  source = *address;
  return {};
}

Result<ExecOptions> parse(const ExecFlags& flags) {
  ExecOptions options;
  for (const auto& text : flags.bind_source) {
    if (auto added = add_source(text, options); !added) return std::unexpected(added.error());
  }
  if (flags.udp && flags.bind_source.empty()) {
    return usage_error("--udp", "", "only with --bind-source", "--transparent is for TCP and UDP anyway");
  }
  options.datagrams_from_source = flags.udp;
  if (flags.mark) {
    const auto mark = parse_socket_mark("--mark", *flags.mark);
    if (!mark) return std::unexpected(mark.error());
    options.mark = *mark;
  }
  const bool nothing_else = flags.bind_source.empty() && !flags.mark;
  options.transparent = flags.transparent || nothing_else;
  return options;
}

int exec(const ExecFlags& flags, const CLI::App& verb) {
  const auto command = command_of(verb);
  if (!command) return report(command.error());
  const auto options = parse(flags);
  if (!options) return report(options.error());
  if (command->empty()) {
    return report(usage_error("exec", "", "no program", "limpid exec -- nc -l 222.173.190.239 51966").error());
  }
  std::optional<UserIdentity> user;
  if (!flags.user.empty()) {
    auto found = find_user(flags.user);
    if (!found) return report(found.error());
    user = std::move(*found);
  }
  if (auto started = start_supervised(*options, report); !started) return report(started.error());
  if (user) {
    if (auto became = become_user(*user); !became) return report(became.error());
  }
  return become(*command);
}

}  // namespace

void add_exec_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("exec", "Run an unmodified program with non-local sockets");
  verb->footer(
      "limpid exec needs CAP_NET_ADMIN in the network namespace; the program needs no privilege. The exit status is "
      "the\n"
      "program's; 127: not found, 126: cannot be run.");
  const auto flags = std::make_shared<ExecFlags>();
  verb->add_flag("--transparent", flags->transparent,
                 "Make every socket transparent before it binds, listens or connects (default without another option)");
  verb->add_option("--bind-source", flags->bind_source,
                   "Connect from this address, which need not be the host's; once for each family")
      ->type_name("ADDR")
      ->allow_extra_args(false);
  verb->add_flag("--udp", flags->udp, "With --bind-source: UDP sockets too");
  verb->add_option("--mark", flags->mark, "Packet mark (SO_MARK) for sockets that set none themselves")
      ->type_name("MARK");
  verb->add_option("--user", flags->user, "Run the program as this user")->type_name("NAME");
  take_command(*verb, "PROGRAM", "The program and its arguments, behind --");
  verb->callback([flags, verb, &action] { action = [flags, verb] { return exec(*flags, *verb); }; });
}

}  // namespace limpid
