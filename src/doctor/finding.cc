// Builds findings, and writes remedies as a shell reads them. Pure.
#include "doctor/finding.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace limpid::doctor {
namespace {

bool is_plain(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         std::string_view("_-./:=,+@%").find(c) != std::string_view::npos;
}

/// Single quotes, as sh(1) reads them.
std::string quoted(std::string_view word) {
  if (!word.empty() && std::ranges::all_of(word, is_plain)) return std::string(word);
  std::string text = "'";
  for (const char c : word) {
    if (c == '\'') {
      text += "'\\''";
    } else {
      text += c;
    }
  }
  return text + '\'';
}

Finding make(Group group, std::string_view id, Severity severity, std::string summary, std::string subject,
             Remedy remedy = {}) {
  return {.group = group,
          .id = std::string(id),
          .severity = severity,
          .subject = std::move(subject),
          .summary = std::move(summary),
          .remedy = std::move(remedy)};
}

}  // namespace

std::string_view name_of(Group group) noexcept {
  switch (group) {
    case Group::privileges: return "privileges";
    case Group::kernel: return "kernel";
    case Group::installation: return "installation";
    case Group::listener: return "listener";
    case Group::routing: return "routing";
    case Group::sysctls: return "sysctls";
    case Group::firewall: return "firewall";
    case Group::limits: return "limits";
    case Group::probe: return "probe";
  }
  return "";
}

std::string_view name_of(Severity severity) noexcept {
  switch (severity) {
    case Severity::ok: return "ok";
    case Severity::skipped: return "skipped";
    case Severity::warning: return "warning";
    case Severity::failure: return "failure";
  }
  return "";
}

std::vector<std::string> Remedy::lines() const {
  std::vector<std::string> text;
  for (const Command& command : commands) {
    std::string line;
    for (const std::string& word : command) line += (line.empty() ? "" : " ") + quoted(word);
    text.push_back(std::move(line));
  }
  std::ranges::copy(paste, std::back_inserter(text));
  return text;
}

Finding ok(Group group, std::string_view id, std::string summary, std::string subject) {
  return make(group, id, Severity::ok, std::move(summary), std::move(subject));
}
Finding skipped(Group group, std::string_view id, std::string summary, std::string subject) {
  return make(group, id, Severity::skipped, std::move(summary), std::move(subject));
}
Finding warning(Group group, std::string_view id, std::string summary, std::string subject, Remedy remedy) {
  return make(group, id, Severity::warning, std::move(summary), std::move(subject), std::move(remedy));
}
Finding failure(Group group, std::string_view id, std::string summary, std::string subject, Remedy remedy) {
  return make(group, id, Severity::failure, std::move(summary), std::move(subject), std::move(remedy));
}

Remedy mend(Command command) {
  return {.commands = {std::move(command)}, .paste = {}, .advice = {}, .safe = true};
}

Remedy set_sysctls(const std::vector<std::pair<std::string, std::string>>& values, bool safe) {
  Command command = {"sysctl", "-w"};
  for (const auto& [key, value] : values) command.push_back(fmt::format("{}={}", key, value));
  return {.commands = {std::move(command)}, .paste = {}, .advice = {}, .safe = safe};
}

Remedy advise(std::string advice) {
  return {.commands = {}, .paste = {}, .advice = std::move(advice), .safe = false};
}

void append(Findings& findings, Findings more) {
  std::ranges::move(more, std::back_inserter(findings));
}

}  // namespace limpid::doctor
