// Settings of this kernel that disturb every interception, whatever is installed: read by a survey, which warns, and by
// the doctor, which mends. Reads /proc/sys; changes nothing.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/netlink.h"

namespace limpid {

struct Disturbance {
  std::string interface;                                     ///< the one that is concerned
  std::string what;                                          ///< what is set, and what it does
  std::vector<std::pair<std::string, std::string>> sysctls;  ///< key and the value that mends it
  std::string caution;                                       ///< when not to; empty: never a reason
  /// One line: "WHAT (sysctl -w KEY=VALUE, CAUTION)".
  [[nodiscard]] std::string message() const;
};

/// sysctl's spelling of an interface name: its dots are slashes.
[[nodiscard]] std::string sysctl_name(std::string_view interface);

/// Bridges whose frames pass the IP chains too (br_netfilter), one for each family.
[[nodiscard]] std::vector<Disturbance> find_bridge_netfilter(const std::vector<LinkInfo>& links);

/// Strict reverse path filtering on one of several default routes.
[[nodiscard]] std::vector<Disturbance> find_strict_filtering(const std::vector<RouteSpec>& routes);

}  // namespace limpid
