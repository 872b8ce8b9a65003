// Runs iptables-save in its four forms and cuts its lines into words.
#include "doctor/iptables.h"

#include <algorithm>
#include <array>
#include <map>
#include <ranges>
#include <utility>

#include "base/process.h"

namespace limpid::doctor {
namespace {

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  std::string word;
  bool quoted = false;
  bool begun = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '\\' && quoted && i + 1 < line.size()) {
      word += line[++i];
    } else if (c == '"') {
      quoted = !quoted;
      begun = true;
    } else if (c == ' ' && !quoted) {
      if (begun) words.push_back(std::exchange(word, {}));
      begun = false;
    } else {
      word += c;
      begun = true;
    }
  }
  if (begun) words.push_back(std::move(word));
  return words;
}

struct Source {
  std::string_view save;
  std::string_view program;
  Family family;
  bool legacy;
};

// The variant that the plain name stands for is the distribution's choice; these names do not depend on it.
constexpr std::array kSources = {
    Source{"iptables-nft-save", "iptables-nft", Family::ipv4, false},
    Source{"ip6tables-nft-save", "ip6tables-nft", Family::ipv6, false},
    Source{"iptables-legacy-save", "iptables-legacy", Family::ipv4, true},
    Source{"ip6tables-legacy-save", "ip6tables-legacy", Family::ipv6, true},
};

}  // namespace

bool IptablesRule::has(std::string_view word) const {
  return std::ranges::find(words, word) != words.end();
}

std::string IptablesRule::after(std::string_view word) const {
  const auto found = std::ranges::find(words, word);
  return found == words.end() || found + 1 == words.end() ? std::string() : *(found + 1);
}

std::string IptablesRule::target() const {
  const std::string jump = after("-j");
  return jump.empty() ? after("-g") : jump;
}

void parse_iptables(std::string_view text, Iptables& tables) {
  std::string table;
  std::map<std::pair<std::string, std::string>, unsigned> numbers;
  for (const auto part : std::views::split(text, '\n')) {
    const std::string_view line(part.begin(), part.end());
    if (line.starts_with('*')) table = line.substr(1);
    auto words = words_of(line);
    if (line.starts_with(':') && words.size() >= 2) {
      tables.chains.push_back({.table = table, .name = words[0].substr(1), .drops_by_policy = words[1] == "DROP"});
    }
    if (words.size() < 2 || words[0] != "-A") continue;
    IptablesRule rule;
    rule.table = table;
    rule.chain = words[1];
    rule.number = ++numbers[{table, rule.chain}];
    rule.words.assign(words.begin() + 2, words.end());
    tables.rules.push_back(std::move(rule));
  }
}

Result<std::vector<Iptables>> read_iptables() {
  std::vector<Iptables> all;
  for (const Source& source : kSources) {
    const auto program = find_system_program(source.save, "iptables");
    if (!program) continue;
    const auto output = run_process(std::vector<std::string>{*program}, {});
    if (!output) return std::unexpected(output.error());
    if (output->exit_status != 0) {
      return failure("run", source.save, output->standard_error.substr(0, output->standard_error.find('\n')));
    }
    Iptables tables;
    tables.program = source.program;
    tables.family = source.family;
    tables.legacy = source.legacy;
    parse_iptables(output->standard_output, tables);
    if (!tables.chains.empty()) all.push_back(std::move(tables));
  }
  return all;
}

}  // namespace limpid::doctor
