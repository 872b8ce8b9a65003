// Writes the words that rules have in common, where iptables counts (multiport takes 15) or quotes. Only xtables_rules.cc calls it.
#include "intercept/xtables_matches.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace limpid {
namespace {

constexpr std::size_t kMostMultiports = 15;  // XT_MULTI_PORTS; a range takes two

/// Inside double quotes iptables-restore knows a backslash as an escape (xtables_rule parser: add_param_to_argv).
std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c > ' ' && c <= '~' ? c : '_';
  }
  return result + '"';
}

}  // namespace

std::string interface_word(std::string_view name) {
  std::string word;
  for (const char c : name) {
    const bool allowed = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                         std::string_view("_.:@").find(c) != std::string_view::npos || (c == '-' && !word.empty());
    word += allowed ? c : '_';
  }
  return word;
}

std::vector<std::string> port_matches(std::string_view protocol, const PortSet& ports) {
  std::vector<std::string> matches;
  if (ports.ranges().size() == 1) {
    const PortRange& range = ports.ranges().front();
    const std::string text = range.first == range.last ? fmt::format("{}", range.first.value)
                                                       : fmt::format("{}:{}", range.first.value, range.last.value);
    matches.push_back(fmt::format("-p {} --dport {}", protocol, text));
    return matches;
  }
  std::vector<std::string> words;
  std::size_t used = 0;
  const auto flush = [&] {
    if (!words.empty())
      matches.push_back(fmt::format("-p {} -m multiport --dports {}", protocol, fmt::join(words, ",")));
    words.clear();
    used = 0;
  };
  for (const PortRange& range : ports.ranges()) {
    const bool single = range.first == range.last;
    const std::size_t needs = single ? 1 : 2;
    if (used + needs > kMostMultiports) flush();
    used += needs;
    words.push_back(single ? fmt::format("{}", range.first.value)
                           : fmt::format("{}:{}", range.first.value, range.last.value));
  }
  flush();
  return matches;
}

std::vector<std::string> xtables_program_matches(const Programs& programs) {
  std::vector<std::string> matches;
  const auto add_ids = [&](std::string_view flag, const std::vector<IdRange>& ranges) {
    for (const IdRange& range : ranges) {
      matches.push_back(range.first == range.last ? fmt::format("-m owner --{} {}", flag, range.first)
                                                  : fmt::format("-m owner --{} {}-{}", flag, range.first, range.last));
    }
  };
  add_ids("uid-owner", programs.users);
  add_ids("gid-owner", programs.groups);
  for (const std::string& cgroup : programs.cgroups)
    matches.push_back(fmt::format("-m cgroup --path {}", quoted(cgroup)));
  return matches;
}

}  // namespace limpid
