// Asks each backend's probe. Called before there is a plan: by the service, by `limpid rules`, by the public Interception.
#include "intercept/backend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/process.h"
#include "intercept/ebpf.h"
#include "intercept/nft.h"
#include "intercept/xtables.h"

namespace limpid {
namespace {

/// Why it cannot be taken; empty: it can, as far as one is permitted to find out.
std::string refusal(Backend backend, const Scope& scope) {
  if (backend == Backend::nftables) {
    if (const auto program = find_system_program("nft", "nftables"); !program) return program.error().message();
    if (const auto missing = find_missing_nft_feature(scope.local.has_value()))
      return fmt::format("this kernel lacks {}", *missing);
    return {};
  }
  if (backend == Backend::ebpf) {
    const auto lacking = find_missing_ebpf_feature();
    if (!lacking) return lacking.error().message();
    return lacking->value_or("");
  }
  const auto missing = find_missing_xtables_feature(backend, scope);
  if (!missing) return missing.error().message();
  return *missing ? fmt::format("this host lacks {}", **missing) : std::string();
}

}  // namespace

Result<std::vector<Backend>> parse_backends(std::string_view typed) {
  if (typed == "auto")
    return std::vector{Backend::nftables, Backend::iptables_nft, Backend::iptables_legacy, Backend::ebpf};
  if (typed == "iptables") return std::vector{Backend::iptables_nft, Backend::iptables_legacy};
  for (const Backend backend : {Backend::nftables, Backend::iptables_nft, Backend::iptables_legacy, Backend::ebpf}) {
    if (to_string(backend) == typed) return std::vector{backend};
  }
  return usage_error("--backend", typed, "no such backend",
                     "auto, nftables, iptables, iptables-nft, iptables-legacy or ebpf");
}

Result<ChosenBackend> choose_backend(const std::vector<Backend>& wanted, const Scope& scope) {
  ChosenBackend chosen;
  if (wanted.size() == 1) {
    chosen.backend = wanted.front();
    return chosen;
  }
  for (const Backend backend : wanted) {
    const std::string why_not = refusal(backend, scope);
    chosen.backend = backend;
    if (why_not.empty()) return chosen;
    chosen.refused.push_back(fmt::format("{}: {}", to_string(backend), why_not));
  }
  return unsupported("choose", "a backend", fmt::format("{}", fmt::join(chosen.refused, "; ")),
                     "install what is missing: apt install nftables, or apt install iptables");
}

}  // namespace limpid
