// limpid explain: what becomes of one packet, and why.
#include "explain/explain.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/flag_values.h"
#include "cli/packet_operands.h"
#include "cli/program_flags.h"
#include "cli/verb.h"
#include "explain/render.h"
#include "net/interface_name.h"
#include "service/signals.h"

namespace limpid {
namespace {

struct ExplainFlags {
  std::string protocol;
  std::string first;   ///< SRC, or DST where that is the only one
  std::string second;  ///< DST
  std::string interface;
  std::string user;
  std::string group;
  bool local = false;
  bool json = false;
};

constexpr std::uint32_t kMostId = std::numeric_limits<std::uint32_t>::max() - 1;

using IdLookup = std::optional<std::uint32_t> (*)(const std::string& name);

Result<std::uint32_t> parse_id(std::string_view flag, const std::string& typed, std::string_view what,
                               IdLookup lookup) {
  if (typed.find_first_not_of("0123456789") == std::string::npos) {
    return parse_number(flag, typed, 0, kMostId, fmt::format("a {}'s number", what));
  }
  if (const auto id = lookup(typed)) return *id;
  return wrong(flag, typed, fmt::format("no {} of that name", what), "give a name that `getent` knows, or a number");
}

Status parse_who(const ExplainFlags& flags, Question& question) {
  if (!flags.local) {
    if (!flags.user.empty() || !flags.group.empty()) {
      return wrong(flags.user.empty() ? "--gid" : "--uid", flags.user.empty() ? flags.group : flags.user,
                   "only this host's own packets have a user", "give --local");
    }
    return {};
  }
  if (!flags.interface.empty()) {
    return wrong("--in", flags.interface, "it contradicts --local: what this host sends arrives nowhere",
                 "give one of them");
  }
  question.local = true;
  if (!flags.user.empty()) {
    const auto user = parse_id("--uid", flags.user, "user", user_of_name);
    if (!user) return std::unexpected(user.error());
    question.user = *user;
  }
  if (!flags.group.empty()) {
    const auto group = parse_id("--gid", flags.group, "group", group_of_name);
    if (!group) return std::unexpected(group.error());
    question.group = *group;
  }
  return {};
}

Result<Question> parse(const ExplainFlags& flags) {
  Question question;
  const auto transport = parse_transport(flags.protocol);
  if (!transport) return std::unexpected(transport.error());
  question.transport = *transport;
  const bool has_source = !flags.second.empty();
  if (!has_source && !flags.local) {
    return usage_error(fmt::format("{} {}", flags.protocol, flags.first), "", "either SRC or DST is missing",
                       "limpid explain tcp 192.0.2.2 198.51.100.2:80, or --local for what this host sends itself");
  }
  const std::string& to = has_source ? flags.second : flags.first;
  const auto destination = parse_endpoint("DST", to, /*any_allowed=*/false);
  if (!destination) return std::unexpected(destination.error());
  if (!destination->port) return wrong("DST", to, "it has no port", "write 198.51.100.2:80 or [2001:db8::2]:80");
  question.destination = {.address = *destination->address, .port = *destination->port};
  if (auto who = parse_who(flags, question); !who) return std::unexpected(who.error());
  if (!has_source) return question;
  const auto source = parse_endpoint("SRC", flags.first, /*any_allowed=*/false);
  if (!source) return std::unexpected(source.error());
  if (auto same = check_one_family(flags.first, *source, *destination); !same) return std::unexpected(same.error());
  question.source = SocketAddress{.address = *source->address, .port = source->port.value_or(Port{})};
  if (!flags.interface.empty()) {
    const auto name = validate_interface_name(flags.interface);
    if (!name) return wrong("--in", flags.interface, name.error());
    question.interface = *name;
  }
  return question;
}

int run(const ExplainFlags& flags) {
  const auto question = parse(flags);
  if (!question) return report(question.error());
  // A Ctrl-C in the middle must not leave our table behind: all of it takes less than a second.
  const auto signals = take_signals();
  if (!signals) return report(signals.error());
  const auto explanation = explain_packet(*question);
  if (!explanation) return report(explanation.error());
  // Whoever reads has seen enough: no failure of ours, `| head` is no mistake.
  (void)std::signal(SIGPIPE, SIG_DFL);
  fmt::print(stdout, "{}", flags.json ? render_json(*explanation) : render_text(*explanation, shows_unicode()));
  return kExitDone;
}

}  // namespace

void add_explain_verb(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<ExplainFlags>();
  CLI::App* verb = app.add_subcommand("explain", "What becomes of a packet, and why: sends a probe that goes nowhere");
  verb->add_option("PROTOCOL", flags->protocol, "tcp or udp")->required()->type_name("");
  verb->add_option("SRC", flags->first, "SRC[:PORT], who sends it; may be left out with --local")
      ->required()
      ->type_name("");
  verb->add_option("DST", flags->second, "DST:PORT, whom it is sent to")->type_name("");
  verb->add_option("--in", flags->interface, "It arrives there; default: where the way back to SRC begins")
      ->type_name("IFACE");
  verb->add_flag("--local", flags->local, "A program of this host sends it");
  verb->add_option("--uid", flags->user, "With --local: a program that runs as this user")->type_name("USER");
  verb->add_option("--gid", flags->group, "With --local: or as this group")->type_name("GROUP");
  verb->add_flag("--json", flags->json, "Print JSON (schema: docs/explain.md)");
  verb->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace limpid
