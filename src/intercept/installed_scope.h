// What an installation intercepts, read back from its rules: the comment in them tells how to undo it, not what its scope
// is. Pure; for those who look at an installation without the flags that made it.
#pragma once

#include <string>
#include <vector>

#include "intercept/ruleset.h"
#include "intercept/xtables.h"
#include "limpid/interception.h"

namespace limpid {

struct InstalledScope {
  Scope scope;  ///< ports, families, interfaces and networks of forwarded traffic; `local` without its programs
  FailMode fail = FailMode::open;
  bool draining = false;  ///< nothing new is captured any more
  bool complete = true;   ///< false: networks stand in sets, which were not read, or it was made for a certain proxy
  bool keeps_tcp_port = false;       ///< both legs are kept out of conntrack
  std::vector<std::string> missing;  ///< iptables: what we wrote and is not there any more, in words
};

/// `table` is of family inet, made by us.
[[nodiscard]] InstalledScope read_installed_scope(const Ruleset& ruleset, const std::string& table);

/// The same of an iptables backend's; of `pieces`, those of this instance and backend are looked at.
[[nodiscard]] InstalledScope read_installed_scope(const std::vector<XtablesPiece>& pieces, const Ownership& owner);

}  // namespace limpid
