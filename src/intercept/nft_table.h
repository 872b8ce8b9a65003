// The text of the nft table: what is captured, and what never is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "intercept/plan.h"

namespace limpid {

/// The table's definition for these inputs. Pure.
[[nodiscard]] std::string render_nft_table(const PlanInputs& inputs);

/// What stands beside it for this host's own traffic; empty where the scope has none of it. Pure.
[[nodiscard]] std::vector<CompanionTable> render_companion_tables(const PlanInputs& inputs);

/// The rules that make a scope fail-closed, one for each protocol in it.
[[nodiscard]] std::vector<std::string_view> rejections(const Scope& scope);

}  // namespace limpid
