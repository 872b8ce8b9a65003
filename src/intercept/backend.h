// Which backend is taken: the first that works here, of those that were asked for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "intercept/plan.h"
#include "limpid/error.h"

namespace limpid {

/// "auto", "nftables", "iptables", "iptables-nft", "iptables-legacy" or "ebpf" as backends in the order of preference.
[[nodiscard]] Result<std::vector<Backend>> parse_backends(std::string_view typed);

struct ChosenBackend {
  Backend backend = Backend::nftables;
  /// Why none before it was taken, in words: "nftables: …"; empty where it was the first.
  std::vector<std::string> refused;
};

/// Tries them in their order (a backend that alone was asked for is taken untried: loading the plan will tell). Changes nothing. Who may not
/// try is given the first that is installed.
[[nodiscard]] Result<ChosenBackend> choose_backend(const std::vector<Backend>& wanted, const Scope& scope);

}  // namespace limpid
