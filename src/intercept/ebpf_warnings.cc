// See ebpf_warnings.h. Programs at ingress run before conntrack has put a translated address back (nf_nat_ipv4_pre_routing).
#include "intercept/ebpf_warnings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "base/file_text.h"
#include "intercept/ebpf.h"

namespace limpid {
namespace {

using nlohmann::json;

bool translates_source(const json& statement) {
  if (!statement.is_object()) return false;
  if (statement.contains("masquerade") || statement.contains("snat")) return true;
  if (!statement.contains("xt") || !statement["xt"].is_object()) return false;
  const std::string target = text_of(statement["xt"], "name");  // of iptables-nft, where nft has no word for it
  return target == "MASQUERADE" || target == "SNAT";
}

/// The tables of iptables-legacy cannot be listed without its program; that there is one is all that is looked at.
bool has_legacy_nat() {
  for (const char* names : {"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"}) {
    std::istringstream lines(read_text(names));
    for (std::string name; std::getline(lines, name);) {
      if (name == "nat") return true;
    }
  }
  return false;
}

}  // namespace

std::string find_source_translation(const Ruleset& ruleset) {
  for (const NftRule& rule : ruleset.rules) {
    if (std::ranges::any_of(rule.expression, translates_source))
      return fmt::format("nft chain {} {} {}", rule.family, rule.table, rule.chain);
  }
  return {};
}

std::vector<std::string> find_ebpf_warnings(const PlanInputs& inputs, bool followed) {
  if (inputs.ownership.backend != Backend::ebpf) return {};
  std::vector<std::string> warnings;
  // Without nft there is nothing of it to be in the way.
  const auto ruleset = read_ruleset();
  std::string translation = ruleset ? find_source_translation(*ruleset) : std::string();
  if (translation.empty() && has_legacy_nat()) translation = "iptables-legacy's table nat";
  if (!translation.empty()) {
    warnings.push_back(
        fmt::format("{} translates source addresses: with --backend ebpf, answers to connections that were made in a "
                    "client's name are lost where it applies (--source none, or another backend)",
                    translation));
  }
  if (!inputs.scope.tcp.empty() && !has_bpf_file_system()) {
    warnings.emplace_back(
        "no bpf file system is mounted on /sys/fs/bpf: with --backend ebpf, a client whose port comes again within a "
        "minute "
        "is answered a second late (mount -t bpf bpf /sys/fs/bpf)");
  }
  if (!followed && inputs.fail == FailMode::closed) {
    warnings.emplace_back(
        "interfaces that appear later have no program with --backend ebpf: what arrives there passes, with --fail "
        "closed too "
        "(use `limpid rules watch`, or apply again)");
  }
  return warnings;
}

}  // namespace limpid
