// limpid run: the flags of the main job, and their translation into ServiceOptions.
#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <memory>

#include "cli/duration.h"
#include "cli/interception_flags.h"
#include "cli/verb.h"
#include "net/resolve.h"
#include "service/service.h"

namespace limpid {
namespace {

struct RunFlags {
  InterceptionFlags interception;
  std::string target = "original";
  std::string workers;
  std::string max_flows;
  std::string confirm;
  std::string udp_mapping = "endpoint-independent";
  std::string udp_filtering = "endpoint-independent";
  std::string udp_timeout = "300s";
  std::string udp_unanswered_timeout = "30s";
  std::string udp_dns_timeout = "10s";
  std::string max_udp_sessions;
  std::string max_udp_sessions_per_source;
  std::string connect_timeout = "10s";
  std::string idle_timeout = "7440s";
  std::string half_closed_timeout = "7440s";
  std::string drain_timeout = "30s";
  std::string log_format = "logfmt";
  bool quiet = false;
  bool verbose = false;
  bool dry_run = false;
};

/// An empty text stands for "not given" and yields 0.
Result<std::uint64_t> parse_count(std::string_view flag, std::string_view text, std::uint64_t most) {
  if (text.empty()) return 0;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0 || value > most) {
    return usage_error(flag, text, "not a number in range", "1 to " + std::to_string(most));
  }
  return value;
}

Status parse_timeouts(const RunFlags& flags, ServiceOptions& options) {
  const auto connect = parse_duration("--connect-timeout", flags.connect_timeout);
  if (!connect) return std::unexpected(connect.error());
  if (connect->count() == 0) return usage_error("--connect-timeout", "0", "a connection needs some time", "write 10s");
  const auto idle = parse_duration("--idle-timeout", flags.idle_timeout);
  if (!idle) return std::unexpected(idle.error());
  const auto half_closed = parse_duration("--half-closed-timeout", flags.half_closed_timeout);
  if (!half_closed) return std::unexpected(half_closed.error());
  const auto drain = parse_duration("--drain-timeout", flags.drain_timeout);
  if (!drain) return std::unexpected(drain.error());
  options.timeouts = {.connect = *connect, .idle = *idle, .half_closed = *half_closed};
  options.drain_timeout = *drain;
  if (!flags.confirm.empty()) {
    const auto confirm = parse_duration("--confirm", flags.confirm);
    if (!confirm) return std::unexpected(confirm.error());
    options.confirm = std::chrono::duration_cast<std::chrono::seconds>(*confirm);
    if (options.confirm->count() == 0)
      return usage_error("--confirm", flags.confirm, "too short to type anything", "write 30");
  }
  return {};
}

Result<NatBehavior> parse_behavior(std::string_view flag, std::string_view text) {
  if (text == "endpoint-independent") return NatBehavior::endpoint_independent;
  if (text == "address-and-port-dependent") return NatBehavior::address_and_port_dependent;
  return usage_error(flag, text, "no such behaviour", "endpoint-independent or address-and-port-dependent");
}

Status parse_udp(const RunFlags& flags, UdpOptions& udp) {
  const auto mapping = parse_behavior("--udp-mapping", flags.udp_mapping);
  if (!mapping) return std::unexpected(mapping.error());
  const auto filtering = parse_behavior("--udp-filtering", flags.udp_filtering);
  if (!filtering) return std::unexpected(filtering.error());
  udp.mapping = *mapping;
  udp.filtering = *filtering;
  struct Timeout {
    std::string_view flag;
    const std::string& text;
    std::chrono::milliseconds& value;
  };
  for (const auto& [flag, text, value] :
       {Timeout{"--udp-timeout", flags.udp_timeout, udp.timeouts.answered},
        Timeout{"--udp-unanswered-timeout", flags.udp_unanswered_timeout, udp.timeouts.unanswered},
        Timeout{"--udp-dns-timeout", flags.udp_dns_timeout, udp.timeouts.dns}}) {
    const auto duration = parse_duration(flag, text);
    if (!duration) return std::unexpected(duration.error());
    if (duration->count() == 0) return usage_error(flag, text, "a session needs some time", "write 30s");
    value = *duration;
  }
  const auto total = parse_count("--max-udp-sessions", flags.max_udp_sessions, 100'000'000);
  if (!total) return std::unexpected(total.error());
  const auto per_source = parse_count("--max-udp-sessions-per-source", flags.max_udp_sessions_per_source, 100'000'000);
  if (!per_source) return std::unexpected(per_source.error());
  udp.limits = {.total = *total, .per_source = *per_source};
  return {};
}

Result<ServiceOptions> parse_run_flags(const RunFlags& flags) {
  auto request = parse_interception_flags(flags.interception);
  if (!request) return std::unexpected(request.error());
  ServiceOptions options;
  options.interception = std::move(request->options);
  options.enable_forwarding = request->enable_forwarding;
  options.source = request->source;
  options.source_is_default = request->source_is_default;
  if (flags.target != "original") {
    auto target = resolve_target(flags.target);
    if (!target) {
      Error error = std::move(target.error());
      error.operation = "--target";
      return std::unexpected(std::move(error));
    }
    options.fixed_target = *target;
  }
  const auto workers = parse_count("--workers", flags.workers, 1024);
  if (!workers) return std::unexpected(workers.error());
  options.workers = static_cast<unsigned>(*workers);
  const auto max_flows = parse_count("--max-flows", flags.max_flows, 100'000'000);
  if (!max_flows) return std::unexpected(max_flows.error());
  options.max_flows = *max_flows;
  if (auto parsed = parse_timeouts(flags, options); !parsed) return std::unexpected(parsed.error());
  if (auto parsed = parse_udp(flags, options.udp); !parsed) return std::unexpected(parsed.error());
  if (flags.quiet && flags.verbose) {
    return usage_error("--quiet", "", "it contradicts --verbose", "give only one of them");
  }
  options.access_log = !flags.quiet;
  options.log.level = flags.quiet ? LogLevel::warning : flags.verbose ? LogLevel::debug : LogLevel::info;
  if (flags.log_format != "logfmt" && flags.log_format != "json") {
    return usage_error("--log-format", flags.log_format, "no such format", "logfmt or json");
  }
  options.log.format = flags.log_format == "json" ? LogFormat::json : LogFormat::logfmt;
  return options;
}

int run(const RunFlags& flags) {
  const auto options = parse_run_flags(flags);
  if (!options) return report(options.error());
  if (flags.dry_run) {
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
  auto flags = std::make_shared<RunFlags>();
  add_interception_flags(*verb, flags->interception);
  verb->add_option("--target", flags->target, "Where to dial: original (what the client dialled) or HOST:PORT")
      ->type_name("TARGET");
  verb->add_option("--workers", flags->workers, "Threads; one for each CPU if not given")->type_name("N");
  verb->add_option("--max-flows", flags->max_flows, "More connections at one time than this are reset")->type_name("N");
  verb->add_option("--confirm", flags->confirm, "Roll back unless confirmed on the terminal within this time")
      ->type_name("SECONDS");
  verb->add_option("--connect-timeout", flags->connect_timeout, "How long a target may take to answer (10s)")
      ->type_name("TIME");
  verb->add_option("--idle-timeout", flags->idle_timeout, "Silence after which a flow is reset; 0: never (7440s)")
      ->type_name("TIME");
  verb->add_option("--half-closed-timeout", flags->half_closed_timeout,
                   "The same for a flow whose one side has finished (7440s)")
      ->type_name("TIME");
  verb->add_option("--drain-timeout", flags->drain_timeout, "How long flows may go on after SIGTERM (30s)")
      ->type_name("TIME");
  constexpr auto kUdp = "UDP";
  verb->add_option("--udp-mapping", flags->udp_mapping,
                   "What makes a session: endpoint-independent (the client alone, the default) or\n"
                   "address-and-port-dependent (client and destination)")
      ->type_name("BEHAVIOUR")
      ->group(kUdp);
  verb->add_option("--udp-filtering", flags->udp_filtering,
                   "Who may answer: endpoint-independent (anybody, the default) or address-and-port-dependent\n"
                   "(only whom the client has written to)")
      ->type_name("BEHAVIOUR")
      ->group(kUdp);
  verb->add_option("--udp-timeout", flags->udp_timeout, "Silence that ends a session (300s)")
      ->type_name("TIME")
      ->group(kUdp);
  verb->add_option("--udp-unanswered-timeout", flags->udp_unanswered_timeout,
                   "The same while nobody has answered (30s)")
      ->type_name("TIME")
      ->group(kUdp);
  verb->add_option("--udp-dns-timeout", flags->udp_dns_timeout, "The same for answered sessions to port 53 (10s)")
      ->type_name("TIME")
      ->group(kUdp);
  verb->add_option("--max-udp-sessions", flags->max_udp_sessions,
                   "More than this: the least recently used ends; a quarter of the file descriptors if not given")
      ->type_name("N")
      ->group(kUdp);
  verb->add_option("--max-udp-sessions-per-source", flags->max_udp_sessions_per_source,
                   "The same for one client address (1024)")
      ->type_name("N")
      ->group(kUdp);
  verb->add_option("--log-format", flags->log_format, "logfmt or json, for messages and the access log")
      ->type_name("FORMAT");
  verb->add_flag("-q,--quiet", flags->quiet, "No access log, and only warnings and errors");
  verb->add_flag("-v,--verbose", flags->verbose, "Debugging messages too");
  verb->add_flag("--dry-run", flags->dry_run, "Print what would be installed, as commands, and change nothing");
  verb->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace limpid
