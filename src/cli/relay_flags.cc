// Workers, limits, timeouts and what is said of flows.
#include "cli/relay_flags.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>

#include "cli/duration.h"

namespace limpid {
namespace {

Status parse_timeouts(const RelayFlags& flags, RelaySettings& settings) {
  const auto connect = parse_duration("--connect-timeout", flags.connect_timeout);
  if (!connect) return std::unexpected(connect.error());
  if (connect->count() == 0) return usage_error("--connect-timeout", "0", "a connection needs some time", "write 10s");
  const auto idle = parse_duration("--idle-timeout", flags.idle_timeout);
  if (!idle) return std::unexpected(idle.error());
  const auto half_closed = parse_duration("--half-closed-timeout", flags.half_closed_timeout);
  if (!half_closed) return std::unexpected(half_closed.error());
  const auto drain = parse_duration("--drain-timeout", flags.drain_timeout);
  if (!drain) return std::unexpected(drain.error());
  settings.timeouts = {.connect = *connect, .idle = *idle, .half_closed = *half_closed};
  settings.drain_timeout = *drain;
  return {};
}

}  // namespace

Result<std::uint64_t> parse_count(std::string_view flag, std::string_view text, std::uint64_t most) {
  if (text.empty()) return 0;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0 || value > most) {
    return usage_error(flag, text, "not a number in range", "1 to " + std::to_string(most));
  }
  return value;
}

Result<RelaySettings> parse_relay_flags(const RelayFlags& flags) {
  RelaySettings settings;
  const auto workers = parse_count("--workers", flags.workers, 1024);
  if (!workers) return std::unexpected(workers.error());
  settings.workers = static_cast<unsigned>(*workers);
  const auto max_flows = parse_count("--max-flows", flags.max_flows, 100'000'000);
  if (!max_flows) return std::unexpected(max_flows.error());
  settings.max_flows = *max_flows;
  if (auto parsed = parse_timeouts(flags, settings); !parsed) return std::unexpected(parsed.error());
  const auto log = parse_log_flags(flags.log);
  if (!log) return std::unexpected(log.error());
  settings.log = *log;
  settings.access_log = !flags.log.quiet;
  if (!flags.access_log_format.empty()) {
    if (flags.access_log_format != "logfmt" && flags.access_log_format != "json" &&
        flags.access_log_format != "journald")
      return usage_error("--access-log-format", flags.access_log_format, "no such format", "logfmt, json or journald");
    settings.access_log_journal = flags.access_log_format == "journald";
    settings.access_log_format = flags.access_log_format == "json" ? LogFormat::json : LogFormat::logfmt;
  }
  const auto rate = parse_count("--access-log-rate", flags.access_log_rate, 1'000'000);
  if (!rate) return std::unexpected(rate.error());
  settings.access_log_rate = *rate;
  settings.control = flags.control;
  if (!flags.control.empty() && flags.control != "none" && !flags.control.starts_with('/'))
    return usage_error("--control", flags.control, "not an absolute path", "write /run/limpid/ctl.sock, or none");
  if (!flags.metrics.empty()) {
    const auto metrics = SocketAddress::parse(flags.metrics);
    if (!metrics) return usage_error("--metrics", flags.metrics, "not an address and a port", "write 127.0.0.1:9100");
    settings.metrics = *metrics;
  }
  if (auto parsed = parse_upstream_flags(flags.upstreams, settings); !parsed) return std::unexpected(parsed.error());
  return settings;
}

void add_relay_flags(CLI::App& verb, RelayFlags& flags, bool datagrams) {
  verb.add_option("--workers", flags.workers, "Threads; one for each CPU if not given")->type_name("N");
  verb.add_option("--max-flows", flags.max_flows, "More connections at one time than this are reset")->type_name("N");
  verb.add_option("--connect-timeout", flags.connect_timeout, "How long a target may take to answer (10s)")
      ->type_name("TIME");
  verb.add_option("--idle-timeout", flags.idle_timeout, "Silence after which a flow is reset; 0: never (7440s)")
      ->type_name("TIME");
  verb.add_option("--half-closed-timeout", flags.half_closed_timeout,
                  "The same for a flow whose one side has finished (7440s)")
      ->type_name("TIME");
  verb.add_option("--drain-timeout", flags.drain_timeout, "How long flows may go on after SIGTERM (30s)")
      ->type_name("TIME");
  constexpr auto kHeading = "Operation";
  verb.add_option("--control", flags.control,
                  "Where limpid status, flows, reload and others reach it: a socket's path, or none")
      ->type_name("PATH|none")
      ->group(kHeading);
  verb.add_option("--metrics", flags.metrics, "Serve /metrics for Prometheus here: 127.0.0.1:9100, [::1]:9100")
      ->type_name("ADDRESS:PORT")
      ->group(kHeading);
  verb.add_option("--access-log-format", flags.access_log_format,
                  "Of the access log alone: logfmt, json, or journald for entries with fields in the journal")
      ->type_name("logfmt|json|journald")
      ->group(kHeading);
  verb.add_option("--access-log-rate", flags.access_log_rate,
                  "Not more lines of it a second than this; how many were left out is logged")
      ->type_name("N")
      ->group(kHeading);
  add_log_flags(verb, flags.log, "No access log, and ");
  add_upstream_flags(verb, flags.upstreams, datagrams);
}

}  // namespace limpid
