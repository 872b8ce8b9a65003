// What a program that runs in the lab is told about it, in its environment, and how `limpid lab in` finds its way by
// that.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lab/lab.h"
#include "limpid/error.h"

namespace limpid {

/// The variable that names every host's namespace: "client=/proc/2/ns/net,router=/proc/3/ns/net,server=/proc/4/ns/net".
inline constexpr const char* kLabVariable = "LIMPID_LAB";
/// The variable that names the host in which a program runs.
inline constexpr const char* kLabHostVariable = "LIMPID_LAB_HOST";

/// A process that does nothing but keep a host's namespace reachable under /proc.
struct LabHolder {
  std::string host;
  int pid = 0;
};

/// Starts a holder for each host of the lab. They are children of the caller and end with it (PR_SET_PDEATHSIG).
[[nodiscard]] Result<std::vector<LabHolder>> start_holders(const Lab& lab);

/// LIMPID_LAB, and LIMPID_LAB_CLIENT_IPV4, LIMPID_LAB_CLIENT_IPV6 and so on for each host.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> lab_environment(const Lab& lab,
                                                                               const std::vector<LabHolder>& holders);

/// The path of a host's namespace in the value of LIMPID_LAB. The error lists the hosts that there are.
[[nodiscard]] Result<std::string> find_lab_host(std::string_view variable, std::string_view host);

}  // namespace limpid
