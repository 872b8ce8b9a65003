// See nft.h. The text that goes in comes from plan.cc; the text that comes out is compared or searched, never parsed
// beyond a table's comment.
#include "intercept/nft.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/process.h"

namespace limpid {
namespace {

constexpr int kSignalBase = 128;  // ProcessOutput::exit_status

struct Feature {
  std::string_view statement;    ///< put into a chain of its own
  std::string_view description;  ///< what to say when the kernel refuses it
  std::string_view family = "inet";
  bool only_local = false;  ///< needed for this host's own traffic alone
};

constexpr std::array kFeatures = {
    Feature{"meta l4proto tcp accept",
            "nftables with tables of family inet (CONFIG_NF_TABLES_INET, kernel 5.10 or newer)"},
    Feature{"tcp dport { 80, 8000-8100 } accept", "nftables' interval sets (CONFIG_NF_TABLES)"},
    Feature{"socket transparent 1 socket wildcard 0 accept",
            "nftables' `socket` expression (CONFIG_NFT_SOCKET, `modprobe nft_socket`; `wildcard` since 5.10)"},
    Feature{"meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:1 accept",
            "nftables' `tproxy` statement for IPv4 (CONFIG_NFT_TPROXY, `modprobe nft_tproxy`)"},
    Feature{"meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:1 accept",
            "nftables' `tproxy` statement for IPv6 (CONFIG_NFT_TPROXY, CONFIG_NF_TPROXY_IPV6; or use --ipv4-only)"},
    Feature{"fib daddr type local accept", "nftables' `fib` expression (CONFIG_NFT_FIB_INET, `modprobe nft_fib_inet`)"},
    Feature{"meta l4proto tcp reject with tcp reset",
            "nftables' `reject` in prerouting (CONFIG_NFT_REJECT_INET, kernel 5.9 or newer)"},
    Feature{"notrack", "nftables' `notrack` statement (CONFIG_NFT_CT)"},
    Feature{"dup to ip daddr", "nftables' `dup` statement for IPv4 (CONFIG_NFT_DUP_IPV4; --local needs it)", "ip",
            true},
    Feature{"dup to ip6 daddr", "nftables' `dup` statement for IPv6 (CONFIG_NFT_DUP_IPV6; --local needs it)", "ip6",
            true},
};

std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find('\n'));
}

/// nft's "FILE:LINE:COLUMNS: Error: CAUSE" and the line that it quotes below.
std::string cause_of(std::string_view complaint) {
  const auto at = complaint.find("Error: ");
  if (at == std::string_view::npos) return complaint.empty() ? "it said nothing" : std::string(first_line(complaint));
  const std::string_view rest = complaint.substr(at + std::string_view("Error: ").size());
  std::string cause(first_line(rest));
  if (const auto end = rest.find('\n'); end != std::string_view::npos) {
    std::string_view quote = first_line(rest.substr(end + 1));
    quote.remove_prefix(std::min(quote.find_first_not_of(" \t"), quote.size()));
    if (!quote.empty()) cause += fmt::format(", at `{}`", quote.substr(0, 160));
  }
  return cause;
}

Result<std::string> run_nft(std::vector<std::string> arguments, std::string_view input, std::string_view operation,
                            std::string_view object) {
  auto program = find_system_program("nft", "nftables");
  if (!program) return std::unexpected(program.error());
  arguments.insert(arguments.begin(), *program);
  auto output = run_process(arguments, input, std::chrono::seconds(60));
  if (!output) return std::unexpected(output.error());
  if (output->exit_status == 0) return std::move(output->standard_output);
  if (output->exit_status > kSignalBase) {
    return failure(operation, object, fmt::format("nft was killed by signal {}", output->exit_status - kSignalBase),
                   "objects made by a newer nft can crash an older one: upgrade the package nftables");
  }
  if (output->standard_error.find("Operation not permitted") != std::string::npos) {
    return unsupported(operation, object, "Operation not permitted", "needs CAP_NET_ADMIN: run as root");
  }
  return failure(operation, object, "nft: " + cause_of(output->standard_error));
}

/// The table's own comment: the first line of a listing that says one, before any set or chain begins.
std::string_view comment_of(std::string_view listing) {
  constexpr std::string_view kOpening = "\n\tcomment \"";
  const auto at = listing.find(kOpening);
  if (at == std::string_view::npos) return {};
  listing.remove_prefix(at + kOpening.size());
  // nft escapes nothing and a comment may hold quotes: it ends with the line.
  const std::string_view line = first_line(listing);
  return line.ends_with('"') ? line.substr(0, line.size() - 1) : std::string_view{};
}

}  // namespace

Status feed_nft(NftMode mode, std::string_view input, std::string_view object) {
  std::vector<std::string> arguments;
  if (mode == NftMode::check) arguments.emplace_back("--check");
  arguments.insert(arguments.end(), {"-f", "-"});
  auto output = run_nft(std::move(arguments), input, mode == NftMode::check ? "check" : "change", object);
  if (!output) return std::unexpected(output.error());
  return {};
}

Result<std::optional<std::string>> list_nft_table(const NftTableName& table) {
  auto listing =
      run_nft({"-nn", "-s", "list", "table", table.family, table.name}, {}, "list", "nft table " + table.to_string());
  if (listing) return std::optional(std::move(*listing));
  if (listing.error().cause.find("No such file or directory") != std::string::npos) return std::optional<std::string>{};
  return std::unexpected(listing.error());
}

std::string list_nft_elements(const NftTableName& table, std::string_view set) {
  const auto listing =
      run_nft({"-nn", "list", "set", table.family, table.name, std::string(set)}, {}, "list", "an nft set");
  if (!listing) return {};
  constexpr std::string_view kOpening = "elements = {";
  const auto begin = listing->find(kOpening);
  if (begin == std::string::npos) return {};
  const auto end = listing->find('}', begin);
  return listing->substr(begin + kOpening.size(), end - begin - kOpening.size());
}

Result<std::string> list_nft_ruleset() {
  return run_nft({"-j", "-nn", "-t", "list", "ruleset"}, {}, "list", "the nft ruleset");
}

Result<std::string> list_nft_rules(const NftTableName& table, std::string_view chain) {
  // Others chose these names, and nft reads its arguments as text of its language.
  const auto is_plain = [](std::string_view name) {
    constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    return !name.empty() && name.find_first_not_of(kAllowed) == std::string_view::npos && name.front() != '-';
  };
  if (!is_plain(table.family) || !is_plain(table.name) || (!chain.empty() && !is_plain(chain))) {
    return failure("list", "an nft chain", "its name has characters that nft's language does not take");
  }
  std::vector<std::string> arguments = {"-a",         "-s",      "-t", "list", chain.empty() ? "table" : "chain",
                                        table.family, table.name};
  if (!chain.empty()) arguments.emplace_back(chain);
  return run_nft(std::move(arguments), {}, "list", "nft table " + table.to_string());
}

Result<NftTables> find_nft_tables() {
  auto listing = run_nft({"-j", "list", "tables"}, {}, "list", "nft tables");
  if (!listing) return std::unexpected(listing.error());
  const auto json = nlohmann::json::parse(*listing, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("nftables") || !json["nftables"].is_array()) {
    return failure("list", "nft tables", "nft printed something else than its JSON");
  }
  NftTables tables;
  for (const auto& entry : json["nftables"]) {
    if (!entry.is_object() || !entry.contains("table")) continue;
    const auto& table = entry["table"];
    if (!table.is_object() || !table.contains("name") || !table["name"].is_string() || !table.contains("family") ||
        !table["family"].is_string()) {
      continue;
    }
    NftTableName found{.family = table["family"].get<std::string>(), .name = table["name"].get<std::string>()};
    if (found.family != "inet" && found.family != "ip" && found.family != "ip6") continue;
    const auto instance = instance_of(found.name);
    if (!instance) continue;
    auto text = run_nft({"-nn", "-s", "-t", "list", "table", found.family, found.name}, {}, "list",
                        "nft table " + found.to_string());
    if (!text) {
      // Another instance has removed its table since the list was made.
      if (text.error().cause.find("No such file or directory") != std::string::npos) continue;
      return std::unexpected(text.error());
    }
    auto ownership = Ownership::from_comment(*instance, comment_of(*text));
    if (!ownership) {
      tables.foreign.push_back(std::move(found));
    } else if (found.family == "inet") {
      tables.ours.push_back(std::move(*ownership));
    } else {
      tables.companions.push_back(std::move(found));
    }
  }
  return tables;
}

std::optional<std::string> find_missing_nft_feature(bool local) {
  std::string all;
  std::vector<std::pair<std::string, std::string_view>> probes;
  for (const Feature& feature : kFeatures) {
    if (feature.only_local && !local) continue;
    probes.emplace_back(
        fmt::format(
            "table {} limpid__probe {{\n  chain c{} {{\n    type filter hook prerouting priority mangle;\n    {}\n  "
            "}}\n}}\n",
            feature.family, probes.size(), feature.statement),
        feature.description);
    all += probes.back().first;
  }
  const auto outcome = feed_nft(NftMode::check, all, "a probe");
  // Who is not permitted to ask is not told that something is missing.
  if (outcome || outcome.error().kind == ErrorKind::unsupported) return std::nullopt;
  for (const auto& [input, description] : probes) {
    if (!feed_nft(NftMode::check, input, "a probe")) return std::string(description);
  }
  return std::nullopt;
}

}  // namespace limpid
