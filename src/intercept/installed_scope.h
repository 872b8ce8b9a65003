// What an installed table intercepts, read back from its rules: the table's comment tells how to undo it, not what its
// scope is. Pure; for those who look at an installation without the flags that made it.
#pragma once

#include <string>

#include "intercept/ruleset.h"
#include "limpid/interception.h"

namespace limpid {

struct InstalledScope {
  Scope scope;  ///< ports, families, interfaces and networks of forwarded traffic; `local` without its programs
  FailMode fail = FailMode::open;
  bool draining = false;  ///< nothing new is captured any more
  bool complete = true;   ///< false: networks stand in sets, which were not read
};

/// `table` is of family inet, made by us.
[[nodiscard]] InstalledScope read_installed_scope(const Ruleset& ruleset, const std::string& table);

}  // namespace limpid
