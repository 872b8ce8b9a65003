// --log-format, --quiet, --verbose, --repair.
#include "cli/service_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

namespace limpid {

void add_log_flags(CLI::App& verb, LogFlags& flags, std::string_view quiet_means) {
  verb.add_option("--log-format", flags.format, "logfmt or json")->type_name("logfmt|json")->capture_default_str();
  verb.add_flag(
      "-q,--quiet", flags.quiet,
      quiet_means.empty() ? "Only warnings and errors" : fmt::format("{}only warnings and errors", quiet_means));
  verb.add_flag("-v,--verbose", flags.verbose, "Debugging messages too");
}

Result<Logger::Options> parse_log_flags(const LogFlags& flags) {
  Logger::Options options;
  if (flags.quiet && flags.verbose) {
    return usage_error("--quiet", "", "it contradicts --verbose", "give only one of them");
  }
  options.level = flags.quiet ? LogLevel::warning : flags.verbose ? LogLevel::debug : LogLevel::info;
  if (flags.format != "logfmt" && flags.format != "json") {
    return usage_error("--log-format", flags.format, "no such format", "logfmt or json");
  }
  options.format = flags.format == "json" ? LogFormat::json : LogFormat::logfmt;
  return options;
}

void add_repair_flag(CLI::App& verb, std::string& typed) {
  verb.add_option("--repair", typed, "When others change our rules: on (put them back) or off (only report)")
      ->type_name("on|off")
      ->capture_default_str();
}

Result<Repair> parse_repair(std::string_view typed) {
  if (typed == "on") return Repair::on;
  if (typed == "off") return Repair::off;
  return usage_error("--repair", typed, "no such mode",
                     "on: rules that others take away are put back; off: only reported");
}

}  // namespace limpid
