// What an interception by eBPF cannot do here although it can be installed. Reads the ruleset; knows nothing of the programs.
#pragma once

#include <string>
#include <vector>

#include "intercept/plan.h"
#include "intercept/ruleset.h"

namespace limpid {

/// Empty for another backend. `followed`: a process stays that attaches the programs to interfaces which appear later.
[[nodiscard]] std::vector<std::string> find_ebpf_warnings(const PlanInputs& inputs, bool followed);

/// "nft chain ip nat postrouting" where a rule translates source addresses; empty where none does. Pure.
[[nodiscard]] std::string find_source_translation(const Ruleset& ruleset);

}  // namespace limpid
