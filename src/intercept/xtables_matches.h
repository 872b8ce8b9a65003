// Words and matches of iptables rules, out of values: ports, interfaces, programs. Called by xtables_rules.cc; pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "limpid/interception.h"
#include "limpid/port_set.h"

namespace limpid {

/// What follows -i. Names come validated; should one slip through, it is still no pattern (a '+' at the end) and no flag.
[[nodiscard]] std::string interface_word(std::string_view name);

/// Matches for the destination ports, as few as possible: "-p tcp --dport 80", "-p tcp -m multiport --dports 80,443".
[[nodiscard]] std::vector<std::string> port_matches(std::string_view protocol, const PortSet& ports);

/// One for each user, group and cgroup: "-m owner --uid-owner 1000-1999".
[[nodiscard]] std::vector<std::string> xtables_program_matches(const Programs& programs);

}  // namespace limpid
