// limpid rules show|config|apply|watch|remove|diff: the plan that `limpid run` installs, for inspection or for another proxy.
#include <fmt/format.h>
#include <linux/capability.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <ranges>
#include <vector>

#include "cli/interception_flags.h"
#include "cli/listener_report.h"
#include "cli/proxy_flags.h"
#include "cli/service_flags.h"
#include "cli/verb.h"
#include "control/control_socket.h"
#include "cutthrough/cut_through.h"
#include "intercept/backend.h"
#include "intercept/ebpf_warnings.h"
#include "intercept/install.h"
#include "intercept/plan.h"
#include "intercept/remove.h"
#include "intercept/survey.h"
#include "net/namespace.h"
#include "service/rules_watch.h"

namespace limpid {
namespace {

// diff(1)'s statuses: trouble must not look like a difference.
constexpr int kDiffSame = 0;
constexpr int kDiffDiffers = 1;
constexpr int kDiffTrouble = 2;

struct RulesFlags {
  InterceptionFlags interception;
  bool json = false;
  bool dry_run = false;
  std::string repair = "on";
  bool keep = false;
  LogFlags log;
  std::string proxy;       ///< --for
  bool unchecked = false;  ///< install without a look at who listens
};

void print(std::string_view text) {
  fmt::print(stdout, "{}", text);
}
void print_warning(std::string_view text) {
  fmt::print(stderr, "limpid: warning: {}\n", text);
}

const FoundInstallation* find_installation(const Survey& survey, const std::string& name) {
  const auto found = std::ranges::find(survey.installations, name, &FoundInstallation::name);
  return found == survey.installations.end() ? nullptr : &*found;
}

/// A plan, and for whom it is.
struct PlanFor {
  Plan plan;
  const ProxyProfile* profile = nullptr;  ///< without --for: none
  SourceMode source = SourceMode::address;
};

/// What the flags ask for, with what the proxy's profile knows where they are silent.
Result<InterceptionRequest> parse_flags(const RulesFlags& flags) {
  auto request = parse_interception_flags(flags.interception);
  if (!request) return request;
  const auto profile = parse_proxy(flags.proxy);
  if (!profile) return std::unexpected(profile.error());
  if (*profile == nullptr) return request;
  if (auto applied = apply_profile(**profile, *request); !applied) return std::unexpected(applied.error());
  return request;
}

enum class For : std::uint8_t { reading, installing, watching };

/// Which backend, and why not another one. Where it is to be followed, the one that holds what is installed.
Status choose_backend_for(InterceptionRequest& request, const FoundInstallation* installed) {
  if (installed != nullptr && request.options.backends.size() > 1) {
    const Backend there = installed->ownership.backend;
    if (std::ranges::find(request.options.backends, there) != request.options.backends.end()) {
      request.options.backends = {there};
      return {};
    }
  }
  const auto chosen = choose_backend(request.options.backends, request.options.scope);
  if (!chosen) return std::unexpected(chosen.error());
  for (const std::string& refused : chosen->refused)
    print_warning(fmt::format("{} is used instead of {}", to_string(chosen->backend), refused));
  request.options.backends = {chosen->backend};
  return {};
}

/// iptables' TPROXY drops where nobody listens, and nobody stays here to say whether somebody does.
Status require_somebody_who_beats(const PlanInputs& inputs) {
  const Ownership& owner = inputs.ownership;
  if (!is_iptables(owner.backend) || owner.heartbeat || inputs.fail == FailMode::closed) return {};
  return unsupported("--fail", "open",
                     fmt::format("{} drops what nobody listens for, unless a running process says that somebody does",
                                 to_string(owner.backend)),
                     "give --backend nftables or --fail closed, or use `limpid rules watch`, which says so");
}

/// The plan for the flags. Where `follow_installed`, what the flags leave open is taken from what is installed under
/// that name.
Result<PlanFor> plan_for(const RulesFlags& flags, bool follow_installed, For purpose) {
  auto request = parse_flags(flags);
  if (!request) return std::unexpected(request.error());
  auto survey = survey_kernel();
  if (!survey) return std::unexpected(survey.error());
  for (const std::string& warning : survey->warnings) print_warning(warning);
  for (const std::string& warning : scope_warnings(*survey, request->options.scope, request->enable_forwarding))
    print_warning(warning);
  for (const std::string& warning : fail_closed_warnings(request->options)) print_warning(warning);
  if (const auto numbers = choose_numbers(*survey, request->options)) {
    for (const std::string& warning : precedence_warnings(*survey, *numbers)) print_warning(warning);
  }

  Keeper keeper = Keeper::permanent;
  const FoundInstallation* installed = find_installation(*survey, request->options.name);
  if (follow_installed && installed != nullptr) {
    keeper = installed->ownership.keeper;
    if (request->options.listener.value == 0) request->options.listener = installed->ownership.listener;
    // What `limpid run` prefers for datagrams, unless it was told otherwise.
    if (request->source_is_default || request->options.keeps_source_port) {
      request->options.keeps_udp_port = installed->ownership.keeps_udp_port;
    }
  }
  if (auto chosen = choose_backend_for(*request, follow_installed ? installed : nullptr); !chosen)
    return std::unexpected(chosen.error());
  if (request->options.listener.value == 0) {
    return usage_error("--listen-port", "", "missing",
                       "give the port on which your proxy listens, for example --listen-port 3129");
  }
  auto inputs = prepare_inputs(*survey, request->options, keeper, request->enable_forwarding);
  if (!inputs) return std::unexpected(inputs.error());
  for (const std::string& warning : find_ebpf_warnings(*inputs, purpose != For::installing)) print_warning(warning);
  if (purpose == For::installing) {
    if (auto possible = require_somebody_who_beats(*inputs); !possible) return std::unexpected(possible.error());
  } else if (purpose == For::watching) {
    inputs->ownership.heartbeat = is_iptables(inputs->ownership.backend);
  } else if (is_iptables(inputs->ownership.backend)) {
    // What `limpid run` would install, unless something else is installed.
    const bool is_followed = installed != nullptr && installed->ownership.backend == inputs->ownership.backend;
    inputs->ownership.heartbeat = is_followed ? installed->ownership.heartbeat : inputs->fail == FailMode::open;
  }
  return PlanFor{.plan = make_plan(*inputs), .profile = find_proxy(flags.proxy), .source = request->source};
}

ProxySetup setup_for(const PlanFor& planned) {
  return describe_setup(*planned.profile, proxy_request(planned.plan, planned.source));
}

void print_as_comments(std::string_view text) {
  for (const auto line : std::views::split(text, '\n')) {
    if (!line.empty()) print(fmt::format("#   {}\n", std::string_view(line.begin(), line.end())));
  }
}

int show(const RulesFlags& flags) {
  const auto planned = plan_for(flags, /*follow_installed=*/true, For::reading);
  if (!planned) return report(planned.error());
  if (flags.json) {
    auto json = nlohmann::ordered_json::parse(render_json(planned->plan));
    if (planned->profile != nullptr) {
      json["proxy"] = setup_json(*planned->profile, planned->source, setup_for(*planned));
    }
    print(json.dump(2) + '\n');
    return kExitDone;
  }
  print(render_commands(planned->plan));
  print("\n# To undo all of it:\n");
  print_as_comments(render_removal_commands(planned->plan));
  if (planned->profile == nullptr) return kExitDone;
  print("\n# For the proxy (`limpid rules config` prints it as it is):\n");
  print_as_comments(render_setup(*planned->profile, setup_for(*planned)));
  return kExitDone;
}

int config(const RulesFlags& flags) {
  if (flags.proxy.empty()) {
    return report(
        usage_error("--for", "", "missing", fmt::format("say whose configuration you want: {}", proxy_names()))
            .error());
  }
  const auto planned = plan_for(flags, /*follow_installed=*/true, For::reading);
  if (!planned) return report(planned.error());
  const ProxySetup setup = setup_for(*planned);
  if (!flags.json) {
    print(render_setup(*planned->profile, setup));
    return kExitDone;
  }
  nlohmann::ordered_json json = {{"schema", 1}};
  json.update(setup_json(*planned->profile, planned->source, setup));
  print(json.dump(2) + '\n');
  return kExitDone;
}

/// "nft table inet limpid", "iptables-nft chains limpid-*".
std::string what_of(const Plan& plan) {
  const Backend backend = plan.inputs.ownership.backend;
  if (backend == Backend::ebpf) return fmt::format("eBPF programs of \"{}\"", plan.inputs.ownership.name);
  return is_iptables(backend) ? fmt::format("{} chains {}-*", to_string(backend), plan.table_name)
                              : "nft table inet " + plan.table_name;
}

/// "TCP 80,443 and UDP 53".
std::string ports_in_words(const Scope& scope) {
  std::string text;
  if (!scope.tcp.empty()) text = "TCP " + scope.tcp.to_string();
  if (!scope.udp.empty()) text += (text.empty() ? "UDP " : " and UDP ") + scope.udp.to_string();
  return text;
}

/// A proxy whose own connections are taken for those of a program here gets them back, for ever.
Status require_excluded_proxy(const Scope& scope) {
  if (!scope.local || !scope.local->never.empty() || !scope.local->only.empty()) return {};
  return usage_error("--local", "", "your proxy's own connections would be intercepted too",
                     "name the user that it runs as, for example --exclude-uid proxy");
}

/// A plan that may be installed now: nobody else of this name is at work, and the kernel takes it.
struct Installable {
  UniqueFd instance_lock;
  UniqueFd planning_lock;
  PlanFor planned;
};

/// Without locks for a dry run: it must work beside the instance that it is about, and without privileges.
Result<Installable> make_installable(const RulesFlags& flags, For purpose) {
  Installable installable;
  if (!flags.dry_run) {
    // A wrong flag is said before a held lock is.
    if (auto request = parse_flags(flags); !request) return std::unexpected(request.error());
    auto instance = lock_instance(flags.interception.name);
    if (!instance) return std::unexpected(instance.error());
    installable.instance_lock = std::move(*instance);
    auto planning = lock_planning();
    if (!planning) return std::unexpected(planning.error());
    installable.planning_lock = std::move(*planning);
  }
  // Said once, and not as a warning about numbers that are never used.
  if (!flags.dry_run && !has_capability(CAP_NET_ADMIN))
    return unsupported("install", "rules", "Operation not permitted", "needs CAP_NET_ADMIN: run as root");
  auto planned = plan_for(flags, /*follow_installed=*/false, purpose);
  if (!planned) return std::unexpected(planned.error());
  installable.planned = std::move(*planned);
  const Plan& plan = installable.planned.plan;
  if (auto excluded = require_excluded_proxy(plan.inputs.scope); !excluded) return std::unexpected(excluded.error());
  if (flags.dry_run) return installable;
  if (auto user = check_listener_user(plan); !user && !flags.unchecked) return std::unexpected(user.error());
  if (auto checked = check_plan(plan); !checked) return std::unexpected(checked.error());
  return installable;
}

int apply(const RulesFlags& flags) {
  const auto installable = make_installable(flags, For::installing);
  if (!installable) return report(installable.error());
  const auto& [plan, profile, source] = installable->planned;
  if (flags.dry_run) {
    print(render_commands(plan));
    return kExitDone;
  }
  const auto listener = check_listener(plan, profile, proxy_request(plan, source));
  if (!listener && !flags.unchecked) return report(listener.error());
  if (auto installed = install_plan(plan); !installed) return report(installed.error());
  for (const std::string& warning : listener ? listener->warnings : std::vector{listener.error().message()}) {
    print_warning(warning);
  }
  print(fmt::format("installed {}: {} goes to port {} on loopback; `limpid rules remove{}` undoes it\n", what_of(plan),
                    ports_in_words(plan.inputs.scope), plan.inputs.ownership.listener.value,
                    flags.interception.name == "limpid" ? "" : " --name " + flags.interception.name));
  // Who is served already needs no telling.
  if (profile != nullptr && !(listener && listener->ready)) {
    print('\n' + render_setup(*profile, setup_for(installable->planned)));
  }
  return kExitDone;
}

int watch(const RulesFlags& flags) {
  const auto repair = parse_repair(flags.repair);
  if (!repair) return report(repair.error());
  const auto log = parse_log_flags(flags.log);
  if (!log) return report(log.error());
  auto installable = make_installable(flags, For::watching);
  if (!installable) return report(installable.error());
  if (flags.keep && installable->planned.plan.inputs.ownership.heartbeat) {
    const auto refused = usage_error("--keep", "",
                                     fmt::format("without this process, rules of {} take nobody to listen",
                                                 to_string(installable->planned.plan.inputs.ownership.backend)),
                                     "leave it out, or give --backend nftables");
    return report(refused.error());
  }
  if (flags.dry_run) {
    print(render_commands(installable->planned.plan));
    return kExitDone;
  }
  const auto watched = watch_rules(installable->planned.plan, {.repair = *repair, .keep = flags.keep, .log = *log},
                                   std::move(installable->planning_lock));
  return watched ? kExitDone : report(watched.error());
}

void print_removed(const RulesFlags& flags, const std::vector<std::string>& lines) {
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"schema", 1}, {"name", flags.interception.name}, {"dry_run", flags.dry_run}, {"removed", lines}};
    print(json.dump(2) + '\n');
    return;
  }
  if (lines.empty()) print(fmt::format("nothing of \"{}\" is installed\n", flags.interception.name));
  for (const std::string& line : lines) print(fmt::format("{} {}\n", flags.dry_run ? "would remove" : "removed", line));
}

int remove(const RulesFlags& flags) {
  const std::string cut_through_line =
      fmt::format("cut-through programs of \"{}\", and their flows", flags.interception.name);
  const std::string control = default_control_path(flags.interception.name);
  const std::string control_line = fmt::format("control socket {}", control);
  auto instance_lock = flags.dry_run ? Result<UniqueFd>(UniqueFd()) : lock_instance(flags.interception.name);
  if (!instance_lock) return report(instance_lock.error());
  // Who holds the lock for too long must not keep an operator from removing rules.
  const auto planning_lock = lock_planning();
  if (!planning_lock) print_warning(planning_lock.error().message());
  if (flags.dry_run) {
    const auto removal = find_removal(flags.interception.name);
    if (!removal) return report(removal.error());
    std::vector<std::string> lines = removal->lines();
    const auto cut_through = find_cut_through();
    if (!cut_through) return report(cut_through.error());
    if (std::ranges::find(*cut_through, flags.interception.name) != cut_through->end())
      lines.push_back(cut_through_line);
    if (is_stale_socket(control)) lines.push_back(control_line);
    print_removed(flags, lines);
    if (const auto holder = holder_of_instance(flags.interception.name))
      print_warning(
          fmt::format("the instance \"{}\" runs ({}) and holds them: without --dry-run this is refused. "
                      "`limpid drain` ends it, and takes them away",
                      flags.interception.name, *holder));
    return kExitDone;
  }
  auto removed = remove_installation(flags.interception.name);
  if (!removed) return report(removed.error());
  // Nothing is intercepted any more: now those that were, and left the proxy.
  const auto cut_through = remove_cut_through(flags.interception.name);
  if (!cut_through) return report(cut_through.error());
  if (*cut_through) removed->push_back(cut_through_line);
  // What matters is removed. A socket without anybody behind it does no harm, and a unit may see /run read-only.
  const auto stale = remove_stale_socket(control);
  if (!stale) print_warning(stale.error().message());
  if (stale && *stale) removed->push_back(control_line);
  print_removed(flags, *removed);
  return kExitDone;
}

int diff(const RulesFlags& flags) {
  const auto trouble = [](const Error& error) {
    report(error);
    return kDiffTrouble;
  };
  const auto planned = plan_for(flags, /*follow_installed=*/true, For::reading);
  if (!planned) return trouble(planned.error());
  const auto differences = diff_plan(planned->plan);
  if (!differences) return trouble(differences.error());
  if (flags.json) {
    const nlohmann::ordered_json json = {{"schema", 1},
                                         {"name", flags.interception.name},
                                         {"same", differences->empty()},
                                         {"differences", *differences}};
    print(json.dump(2) + '\n');
  } else {
    for (const std::string& line : *differences) print(line + '\n');
  }
  return differences->empty() ? kDiffSame : kDiffDiffers;
}

}  // namespace

void add_rules_verb(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<RulesFlags>();
  CLI::App* rules = app.add_subcommand(
      "rules",
      "The kernel set-up that interception needs, for another proxy: show, apply, watch, remove or compare it");
  rules->require_subcommand(1);

  const auto add = [&](const std::string& name, const std::string& help, int (*run)(const RulesFlags&)) {
    CLI::App* verb = rules->add_subcommand(name, help);
    verb->callback([flags, run, &action] { action = [flags, run] { return run(*flags); }; });
    return verb;
  };
  const auto add_json = [&](CLI::App* verb) {
    verb->add_flag("--json", flags->json, "Print JSON (schema: docs/rules.md)");
  };
  const auto add_plan_flags = [&](CLI::App* verb) {
    add_interception_flags(*verb, flags->interception);
    verb->get_option("--listen-port")->group("How");  // nobody chooses it for a proxy of somebody else's
    add_proxy_flag(*verb, flags->proxy);
  };
  const auto add_unchecked = [&](CLI::App* verb) {
    verb->add_flag("--unchecked", flags->unchecked, "Whoever listens, transparent or not")->group("How");
  };
  const auto add_dry_run = [&](CLI::App* verb) {
    verb->add_flag("--dry-run", flags->dry_run, "Print what would be done, and do nothing");
  };

  CLI::App* show_verb = add("show", "Print the plan as commands; needs no privileges", show);
  add_plan_flags(show_verb);
  add_json(show_verb);

  CLI::App* config_verb = add("config", "Print the lines that the proxy's own configuration needs", config);
  add_plan_flags(config_verb);
  add_json(config_verb);

  CLI::App* apply_verb = add("apply", "Install the plan for a proxy of yours, and leave it there", apply);
  add_plan_flags(apply_verb);
  add_unchecked(apply_verb);
  add_dry_run(apply_verb);

  CLI::App* watch_verb =
      add("watch", "Install the plan, put back what others take away, and remove it at the end", watch);
  add_plan_flags(watch_verb);
  add_unchecked(watch_verb);
  add_repair_flag(*watch_verb, flags->repair);
  watch_verb->add_flag("--keep", flags->keep, "Leave the rules in the kernel at the end");
  add_log_flags(*watch_verb, flags->log, "");
  add_dry_run(watch_verb);

  CLI::App* remove_verb = add("remove", "Remove what was installed under a name, and what crashes left", remove);
  remove_verb->add_option("--name", flags->interception.name, "Which installation")
      ->type_name("NAME")
      ->capture_default_str();
  add_json(remove_verb);
  add_dry_run(remove_verb);

  CLI::App* diff_verb = add("diff", "Compare the plan with the kernel: 0 same, 1 differs, 2 trouble", diff);
  add_plan_flags(diff_verb);
  add_json(diff_verb);
}

}  // namespace limpid
