// Questions over HTTP to the control socket; what comes back is JSON or it is an error.
#include "cli/control_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "control/control_socket.h"
#include "control/http_client.h"
#include "intercept/install.h"

namespace limpid {

using nlohmann::ordered_json;

namespace {

/// Nobody listens there; but the lock of the instance tells whether there is one.
Error without_socket(const ControlFlags& flags, const std::string& path, const Error& nobody) {
  const auto holder = holder_of_instance(flags.name);
  if (!holder) return nobody;
  return failure("ask", path,
                 fmt::format("the instance \"{}\" runs ({}), but has no control socket there", flags.name, *holder),
                 "name its socket with --control; if it was started with --control none, restart it without that")
      .error();
}

}  // namespace

void add_control_flags(CLI::App& verb, ControlFlags& flags, bool prints) {
  verb.add_option("--name", flags.name, "Which instance")->type_name("NAME")->capture_default_str();
  verb.add_option("--control", flags.path, "Its control socket, if it is not the usual one of that name")
      ->type_name("PATH");
  if (prints) verb.add_flag("--json", flags.json, "Print the instance's answer as JSON");
}

std::string control_path(const ControlFlags& flags) {
  return flags.path.empty() ? default_control_path(flags.name) : flags.path;
}

Result<ControlAnswer> ask_instance(const ControlFlags& flags, std::string_view method, std::string_view target,
                                   std::string_view body, std::chrono::seconds patience) {
  if (auto valid = check_instance_name(flags.name); !valid) return std::unexpected(valid.error());
  const std::string path = control_path(flags);
  auto answer = ask_control(path, method, target, body, patience);
  if (!answer && answer.error().code == ENOENT) return std::unexpected(without_socket(flags, path, answer.error()));
  if (!answer) return std::unexpected(answer.error());
  if (!ordered_json::accept(answer->body))
    return failure("ask", path, "its answer makes no sense", "is it another version of Limpid?");
  return ControlAnswer{.status = answer->status, .body = std::move(answer->body), .peer = answer->peer};
}

Error refusal(const ControlAnswer& answer, std::string_view operation, const ControlFlags& flags) {
  const auto json = ordered_json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  std::string cause;
  if (json.is_object() && json.contains("errors") && json["errors"].is_array()) {
    for (const auto& each : json["errors"]) {
      if (!each.is_string()) continue;
      if (!cause.empty()) cause += "; ";
      cause += each.get<std::string>();
    }
  }
  if (cause.empty()) cause = fmt::format("status {}", answer.status);
  constexpr unsigned kBadRequest = 400;
  if (answer.status == kBadRequest) return usage_error(operation, "", cause).error();
  return failure(operation, fmt::format("instance \"{}\"", flags.name), cause).error();
}

Result<ordered_json> fetch(const ControlFlags& flags, std::string_view method, std::string_view target,
                           std::string_view body) {
  const auto answer = ask_instance(flags, method, target, body);
  if (!answer) return std::unexpected(answer.error());
  if (!answer->ok()) return std::unexpected(refusal(*answer, "ask", flags));
  return ordered_json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
}

std::string in_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  constexpr double kStep = 1024;
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= kStep && unit + 1 < kUnits.size()) {
    value /= kStep;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string in_time(std::uint64_t milliseconds) {
  const std::uint64_t seconds = milliseconds / 1000;
  const std::uint64_t minutes = seconds / 60;
  const std::uint64_t hours = minutes / 60;
  if (seconds == 0) return fmt::format("{}ms", milliseconds);
  if (minutes == 0) return fmt::format("{}s", seconds);
  if (hours == 0) return fmt::format("{}m {}s", minutes, seconds % 60);
  if (hours < 24) return fmt::format("{}h {}m", hours, minutes % 60);
  return fmt::format("{}d {}h", hours / 24, hours % 24);
}

}  // namespace limpid
