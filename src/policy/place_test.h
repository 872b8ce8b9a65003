// Conditions about where addresses are: geoip and asn. They become sets of networks when they are read, so that they cost what dst(…) costs, and may be told to the kernel.
#pragma once

#include <string_view>
#include <vector>

#include "policy/rule.h"
#include "policy/rule_argument.h"
#include "policy/rule_lexer.h"

namespace limpid {

[[nodiscard]] bool is_place_test(std::string_view name) noexcept;
/// Reads what stands in its brackets: a SourceIn or a DestinationIn.
[[nodiscard]] Result<Test> read_place_test(std::string_view name, const std::vector<RuleArgument>& given,
                                           const Places& places, const RuleLexer& lexer);

}  // namespace limpid
