// See listing.h. The text is nft's own, but the names and comments in it are whatever somebody with privileges has chosen.
#include "explain/listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ranges>

#include "base/process.h"
#include "explain/xtables_words.h"
#include "intercept/nft.h"

namespace limpid {
namespace {

constexpr std::string_view kHandle = " # handle ";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// The text up to the last " # handle N", and N; 0 without one.
std::uint64_t take_handle(std::string_view& text) {
  const auto at = text.rfind(kHandle);
  if (at == std::string_view::npos) return 0;
  const std::string_view digits = text.substr(at + kHandle.size());
  std::uint64_t handle = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), handle);
  if (error != std::errc{} || end != digits.data() + digits.size()) return 0;
  text = text.substr(0, at);
  return handle;
}

/// "type filter hook prerouting priority -150; policy accept;"
bool read_hook(std::string_view line, ListedChain& chain) {
  if (!line.starts_with("type ")) return false;
  const auto word_after = [&](std::string_view key) {
    const auto at = line.find(key);
    if (at == std::string_view::npos) return std::string();
    const std::string_view rest = line.substr(at + key.size());
    return std::string(rest.substr(0, rest.find_first_of(" ;")));
  };
  chain.hook = word_after(" hook ");
  chain.priority = word_after(" priority ");
  chain.policy = word_after(" policy ");
  return true;
}

ListedRule read_rule(std::string_view text, std::uint64_t handle) {
  ListedRule rule{.handle = handle, .text = std::string(trimmed(text)), .comment = {}};
  constexpr std::string_view kComment = " comment \"";
  const auto at = rule.text.rfind(kComment);
  if (at != std::string::npos && rule.text.ends_with('"') && rule.text.size() > at + kComment.size()) {
    rule.comment = rule.text.substr(at + kComment.size(), rule.text.size() - at - kComment.size() - 1);
    rule.text.resize(at);
  }
  return rule;
}

bool is_iptables(const TableKey& table, std::string_view chain) {
  if (!is_iptables_table(table)) return false;
  // Its base chains have upper-case names, and so have most of those that programs add.
  return instance_of_chain(chain) || std::ranges::any_of(chain, [](char c) { return c >= 'A' && c <= 'Z'; });
}

/// nft prints most of iptables' matches and targets as "xt match", "xt target": iptables itself knows what they mean.
void translate(const TableKey& table, const std::string& name, ListedChain& chain) {
  const std::string program = table.family == "ip" ? "iptables-nft" : "ip6tables-nft";
  const auto path = find_system_program(program, "iptables");
  if (!path) return;
  const auto output = run_process(std::array<std::string, 5>{*path, "-t", table.name, "-S", name}, {});
  if (!output || output->exit_status != 0) return;
  const auto lines = parse_iptables_rules(output->standard_output, name);
  if (lines.size() != chain.rules.size()) return;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    chain.rules[i].text = lines[i];
    chain.rules[i].comment.clear();
  }
}

}  // namespace

const ListedRule* ListedChain::find(std::uint64_t handle) const {
  const auto found = std::ranges::find(rules, handle, &ListedRule::handle);
  return found == rules.end() ? nullptr : &*found;
}

ListedTable parse_listing(std::string_view text) {
  ListedTable table;
  ListedChain* chain = nullptr;
  std::string pending;  // a rule with a long set goes over several lines
  for (const auto part : std::views::split(text, '\n')) {
    std::string_view line = trimmed(std::string_view(part.begin(), part.end()));
    if (line.empty()) continue;
    if (chain == nullptr) {
      const std::uint64_t handle = take_handle(line);
      if (handle != 0 && line.starts_with("chain ") && line.ends_with(" {")) {
        chain = &table[std::string(line.substr(6, line.size() - 8))];
      }
      continue;
    }
    if (pending.empty() && line == "}") {
      chain = nullptr;
    } else if (!pending.empty() || !read_hook(line, *chain)) {
      pending += pending.empty() ? "" : " ";
      pending += line;
      std::string_view whole = pending;
      if (const std::uint64_t handle = take_handle(whole); handle != 0) {
        chain->rules.push_back(read_rule(whole, handle));
        pending.clear();
      }
    }
  }
  return table;
}

std::vector<std::string> parse_iptables_rules(std::string_view text, std::string_view chain) {
  const std::string prefix = fmt::format("-A {} ", chain);
  std::vector<std::string> rules;
  for (const auto part : std::views::split(text, '\n')) {
    const std::string_view line(part.begin(), part.end());
    if (line == trimmed(prefix)) rules.emplace_back();
    if (line.starts_with(prefix)) rules.emplace_back(line.substr(prefix.size()));
  }
  return rules;
}

void RuleBook::learn(const TraceEvent& event) {
  const TableKey key{.family = event.family, .name = event.table};
  auto& table = tables_[key];
  if (const auto known = table.find(event.chain); known != table.end()) {
    if (event.kind != TraceKind::rule || event.rule_handle == 0 || known->second.find(event.rule_handle) != nullptr)
      return;
    table.erase(known);  // the rules have changed since
  }
  // Ours is small without what its sets hold, and the words about one chain need to know others.
  const bool ours = instance_of(event.table).has_value();
  const auto listing = list_nft_rules({.family = event.family, .name = event.table}, ours ? "" : event.chain);
  if (listing) {
    for (auto& [name, chain] : parse_listing(*listing)) table.insert_or_assign(name, std::move(chain));
  } else {
    const std::string trouble = fmt::format("{} {}: {}", event.chain, event.table, listing.error().message());
    if (std::ranges::find(troubles_, trouble) == troubles_.end()) troubles_.push_back(trouble);
  }
  ListedChain& chain = table[event.chain];
  if (is_iptables(key, event.chain)) translate(key, event.chain, chain);
  // Whoever is gone already is not asked for again.
  if (event.kind == TraceKind::rule && event.rule_handle != 0 && chain.find(event.rule_handle) == nullptr) {
    chain.rules.push_back({.handle = event.rule_handle, .text = {}, .comment = {}});
  }
}

void RuleBook::add(const TableKey& table, ListedTable listing) {
  tables_[table].merge(listing);
}

const ListedTable* RuleBook::find(const TableKey& table) const {
  const auto found = tables_.find(table);
  return found == tables_.end() ? nullptr : &found->second;
}

const ListedChain* RuleBook::find(const TableKey& table, const std::string& chain) const {
  const ListedTable* listed = find(table);
  if (listed == nullptr) return nullptr;
  const auto found = listed->find(chain);
  return found == listed->end() ? nullptr : &found->second;
}

}  // namespace limpid
