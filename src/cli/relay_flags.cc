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
  return settings;
}

void add_relay_flags(CLI::App& verb, RelayFlags& flags) {
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
  add_log_flags(verb, flags.log, "No access log, and ");
}

}  // namespace limpid
