// limpid doctor: what is wrong with interception on this host, or would be, and the commands that mend it.
#include "doctor/doctor.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <net/if.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "base/terminal_text.h"
#include "cli/flag_values.h"
#include "cli/interception_flags.h"
#include "cli/verb.h"
#include "doctor/mend.h"
#include "doctor/report.h"
#include "intercept/plan.h"
#include "net/interface_name.h"
#include "net/namespace.h"

namespace limpid {
namespace {

struct DoctorFlags {
  InterceptionFlags interception;
  bool name_given = false;
  std::string scope_flag;  ///< the first one that belongs to a plan: "--from"
  std::string only;
  std::string via;
  std::string target;
  std::string as;
  std::string color = "auto";
  bool no_probe = false;
  bool json = false;
  bool fix = false;
  bool yes = false;
  bool dry_run = false;
};

Status parse_target(const DoctorFlags& flags, doctor::Examination& examination) {
  if (flags.target.empty() != flags.as.empty()) {
    return usage_error("--target, --as", "", "they belong together",
                       "for example --target 198.51.100.2:80 --as 192.0.2.2: a server, and a client of this router");
  }
  if (flags.target.empty()) return {};
  const auto target = SocketAddress::parse(flags.target);
  if (!target) return wrong("--target", flags.target, target.error());
  const auto as = IpAddress::parse(flags.as);
  if (!as) return wrong("--as", flags.as, as.error());
  if (as->family() != target->family())
    return usage_error("--as", flags.as, "of another family than --target", "give two of one");
  examination.target = *target;
  examination.as = *as;
  return {};
}

Result<doctor::Examination> parse(const DoctorFlags& flags) {
  doctor::Examination examination;
  if (!flags.only.empty() && !doctor::is_known(flags.only)) {
    return wrong("--only", flags.only, "neither a group nor an id of a finding",
                 "privileges, kernel, installation, listener, routing, sysctls, firewall, limits, probe, or an id that "
                 "a report shows");
  }
  examination.only = flags.only;
  if (flags.color != "auto" && flags.color != "always" && flags.color != "never") {
    return wrong("--color", flags.color, "not a choice", "auto, always or never");
  }
  if (flags.json && flags.fix) return usage_error("--fix", "", "not together with --json", "leave out one of the two");
  if ((flags.yes || flags.dry_run) && !flags.fix)
    return usage_error("--yes, --dry-run", "", "they say how --fix acts", "add --fix");
  if (!flags.via.empty()) {
    const auto via = validate_interface_name(flags.via);
    if (!via) return wrong("--via", flags.via, via.error());
    if (::if_nametoindex(flags.via.c_str()) == 0)
      return usage_error("--via", flags.via, "there is no such interface", "`ip link` lists what there is");
    examination.via = *via;
  }
  if (auto target = parse_target(flags, examination); !target) return std::unexpected(target.error());
  examination.probes = !flags.no_probe;
  if (flags.no_probe && (!flags.via.empty() || !flags.target.empty()))
    return usage_error("--no-probe", "", "--via and --target are about the probe", "leave out one of them");
  if (flags.interception.tcp.empty() && flags.interception.udp.empty()) {
    if (!flags.scope_flag.empty()) {
      return usage_error(flags.scope_flag, "", "it is part of a plan, and no ports are given",
                         "add --tcp or --udp to have a plan judged; leave it out for what is installed");
    }
    if (auto name = check_instance_name(flags.interception.name); !name) {
      return wrong("--name", flags.interception.name, name.error());
    }
    if (flags.name_given) examination.name = flags.interception.name;
    return examination;
  }
  auto request = parse_interception_flags(flags.interception);
  if (!request) return std::unexpected(request.error());
  examination.planned = request->options;
  return examination;
}

doctor::ReportStyle style_of(const DoctorFlags& flags) {
  // NOLINTBEGIN(concurrency-mt-unsafe): the process has one thread yet
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool plain = (no_color != nullptr && *no_color != '\0') || terminal == nullptr ||
                     std::string_view(terminal) == "dumb" || ::isatty(STDOUT_FILENO) == 0;
  return {.color = flags.color == "always" || (flags.color == "auto" && !plain), .unicode = shows_unicode()};
  // NOLINTEND(concurrency-mt-unsafe)
}

int status_of(const doctor::Findings& findings) {
  if (doctor::count(findings, doctor::Severity::failure) != 0) return kExitFailure;
  return doctor::is_incomplete(findings) ? kExitUnsupported : kExitDone;
}

bool ask() {
  fmt::print(stderr, "Do this? [y/N] ");
  (void)std::fflush(stderr);
  const int answer = std::getchar();
  return answer == 'y' || answer == 'Y';
}

/// True when something was done.
Result<bool> mend(const DoctorFlags& flags, const doctor::Findings& findings) {
  const auto commands = doctor::safe_commands(findings);
  if (commands.empty()) {
    fmt::print("\nnothing that --fix does by itself: the other remedies are yours to choose\n");
    return false;
  }
  fmt::print("\n{}\n", flags.dry_run ? "--fix would do:" : "--fix does:");
  for (const auto& command : commands) {
    for (const std::string& line : doctor::Remedy{.commands = {command}}.lines())
      fmt::print("  {}\n", for_terminal(line));
  }
  (void)std::fflush(stdout);
  if (flags.dry_run) return false;
  if (!has_capability(CAP_NET_ADMIN))
    return unsupported("--fix", "", "Operation not permitted", "needs CAP_NET_ADMIN: run as root");
  if (!flags.yes) {
    if (::isatty(STDIN_FILENO) == 0) return usage_error("--fix", "", "there is no terminal to ask on", "add --yes");
    if (!ask()) return false;
  }
  for (const auto& command : commands) {
    if (auto done = doctor::run_command(command); !done) return std::unexpected(done.error());
  }
  return true;
}

int run(const DoctorFlags& flags) {
  const auto examination = parse(flags);
  if (!examination) return report(examination.error());
  auto findings = doctor::examine(*examination);
  if (!findings) return report(findings.error());
  if (flags.json) {
    fmt::print("{}", doctor::render_json(*findings));
    return status_of(*findings);
  }
  const auto style = style_of(flags);
  fmt::print("{}", doctor::render_text(*findings, style));
  if (!flags.fix) return status_of(*findings);
  const auto mended = mend(flags, *findings);
  if (!mended) return report(mended.error());
  if (*mended) {
    findings = doctor::examine(*examination);
    if (!findings) return report(findings.error());
    fmt::print("\nAfterwards:\n\n{}", doctor::render_text(*findings, style));
  }
  return status_of(*findings);
}

}  // namespace

void add_doctor_verb(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<DoctorFlags>();
  CLI::App* verb = app.add_subcommand(
      "doctor", "Find what is wrong with interception on this host, and how to mend it; tries it with real packets");
  constexpr auto kExamination = "Examination";
  verb->add_option("--only", flags->only, "One group or one id only")->type_name("GROUP|ID")->group(kExamination);
  verb->add_option("--via", flags->via, "Probe as a client on this interface would come")
      ->type_name("IFACE")
      ->group(kExamination);
  verb->add_option("--target", flags->target, "Ask a real server whether its answers come back here; with --as")
      ->type_name("ADDRESS:PORT")
      ->group(kExamination);
  verb->add_option("--as", flags->as, "The client in whose name to ask it")->type_name("ADDRESS")->group(kExamination);
  verb->add_flag("--no-probe", flags->no_probe, "Only read: send no packet, and leave out the trials of the kernel")
      ->group(kExamination);
  verb->add_flag("--json", flags->json, "Print JSON (schema: docs/doctor.md)")->group(kExamination);
  verb->add_option("--color", flags->color, "Colours in the text")
      ->type_name("auto|always|never")
      ->capture_default_str()
      ->group(kExamination);
  constexpr auto kMending = "Mending";
  verb->add_flag("--fix", flags->fix, "Apply the safe remedies, after showing them")->group(kMending);
  verb->add_flag("--yes", flags->yes, "Do not ask")->group(kMending);
  verb->add_flag("--dry-run", flags->dry_run, "Show what --fix would do, and do nothing")->group(kMending);
  add_interception_flags(*verb, flags->interception);
  verb->callback([flags, verb, &action] {
    flags->name_given = verb->get_option("--name")->count() != 0;
    for (const CLI::Option* option : verb->get_options()) {
      const std::string& group = option->get_group();
      const bool examines = group == kExamination || group == kMending || option->check_name("--name");
      if (!examines && option->count() != 0 && flags->scope_flag.empty()) flags->scope_flag = option->get_name();
    }
    action = [flags] { return run(*flags); };
  });
}

}  // namespace limpid
