// The flags of the dashboard, for every verb that relays.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "service/settings.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed.
struct DashboardFlags {
  std::string address;
  std::string token_file;
  std::vector<std::string> hosts;
};

void add_dashboard_flags(CLI::App& verb, DashboardFlags& flags, const std::string& heading);
/// Empty where no dashboard is wanted. The token's file is read at the start, not here.
[[nodiscard]] Result<std::optional<DashboardSettings>> parse_dashboard_flags(const DashboardFlags& flags);

}  // namespace limpid
