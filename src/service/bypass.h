// Which `bypass` rules the kernel can be told, and what of the scope then remains: such traffic never comes to user space. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "limpid/interception.h"
#include "policy/rule.h"

namespace limpid {

/// A rule of which the kernel cannot be told all: what it matches is intercepted, and relayed directly.
struct RelayedBypass {
  std::size_t rule = 0;  ///< its place, from 0
  std::string cause;
};

/// Takes out of `scope` what bypass rules leave alone: destinations, ports or clients, where one of these alone says it, no earlier rule may decide otherwise, and the
/// networks are few enough for the backend. The scope may end up empty. Returns the others.
[[nodiscard]] std::vector<RelayedBypass> apply_bypass(const std::vector<Rule>& rules, Scope& scope,
                                                      std::size_t most_networks);

/// How many networks a rule may exclude, with the backend that is going to be tried first.
[[nodiscard]] std::size_t most_bypass_networks(const std::vector<Backend>& backends) noexcept;

/// Whether nothing is left to intercept.
[[nodiscard]] bool is_empty(const Scope& scope) noexcept;

}  // namespace limpid
