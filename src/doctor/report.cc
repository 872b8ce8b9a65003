// See report.h. Names of tables, processes and rules come from others: nothing in them may act on the terminal.
#include "doctor/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/plural.h"
#include "base/terminal_text.h"

namespace limpid::doctor {
namespace {

std::string_view mark_of(Severity severity, bool unicode) {
  switch (severity) {
    case Severity::ok: return unicode ? "√" : "+";
    case Severity::skipped: return "-";
    case Severity::warning: return "!";
    case Severity::failure: return unicode ? "×" : "x";
  }
  return "";
}

std::string_view color_of(Severity severity) {
  switch (severity) {
    case Severity::ok: return "\x1b[32m";
    case Severity::skipped: return "\x1b[2m";
    case Severity::warning: return "\x1b[33m";
    case Severity::failure: return "\x1b[31m";
  }
  return "";
}

std::string colored(std::string_view text, std::string_view color, bool wanted) {
  return wanted ? fmt::format("{}{}\x1b[0m", color, text) : std::string(text);
}

}  // namespace

std::size_t count(const Findings& findings, Severity severity) {
  return static_cast<std::size_t>(std::ranges::count(findings, severity, &Finding::severity));
}

bool is_incomplete(const Findings& findings) {
  return std::ranges::any_of(findings, &Finding::not_permitted);
}

std::string render_text(const Findings& findings, const ReportStyle& style) {
  std::string text;
  std::optional<Group> group;
  for (const Finding& finding : findings) {
    if (group != finding.group) {
      if (group) text += '\n';
      group = finding.group;
      text += colored(name_of(finding.group), "\x1b[1m", style.color) + '\n';
    }
    const std::string subject = finding.subject.empty() ? "" : for_terminal(finding.subject) + ": ";
    text += fmt::format("  {} {}  {}{}\n",
                        colored(mark_of(finding.severity, style.unicode), color_of(finding.severity), style.color),
                        finding.id, subject, for_terminal(finding.summary));
    if (finding.severity == Severity::ok) continue;
    for (const std::string& line : finding.remedy.lines()) text += fmt::format("        {}\n", for_terminal(line));
    if (!finding.remedy.advice.empty()) text += fmt::format("      ({})\n", for_terminal(finding.remedy.advice));
  }
  text += fmt::format("\n{}, {}, {} ok, {} skipped\n", counted(count(findings, Severity::failure), "failure"),
                      counted(count(findings, Severity::warning), "warning"), count(findings, Severity::ok),
                      count(findings, Severity::skipped));
  return text;
}

std::string render_json(const Findings& findings) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"group", name_of(finding.group)},
                    {"id", finding.id},
                    {"severity", name_of(finding.severity)},
                    {"subject", finding.subject},
                    {"summary", finding.summary},
                    {"remedy", finding.remedy.lines()},
                    {"advice", finding.remedy.advice},
                    {"safe", finding.remedy.safe},
                    {"not_permitted", finding.not_permitted}});
  }
  const nlohmann::ordered_json document = {{"schema", 1},
                                           {"failures", count(findings, Severity::failure)},
                                           {"warnings", count(findings, Severity::warning)},
                                           {"ok", count(findings, Severity::ok)},
                                           {"skipped", count(findings, Severity::skipped)},
                                           {"findings", std::move(list)}};
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}

}  // namespace limpid::doctor
