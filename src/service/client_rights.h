// What rules ask about this host's own programs, and whether this process may find it out. Where it may not, such a condition is never met, without a word for each flow:
// so the service says so once, at its start and at each reload. Asked by service.cc and reload.cc; gives nobody any right.
#pragma once

#include <string>
#include <vector>

#include "base/log.h"
#include "policy/client_facts.h"

namespace limpid {

/// What may be looked at.
struct ClientRights {
  bool processes = true;  ///< other users' processes and their descriptors, below /proc
  bool cgroups = true;    ///< the path of a cgroup that is known by its number
};

/// Those of the calling thread.
[[nodiscard]] ClientRights find_client_rights();

/// A message, and what has to be allowed.
struct MissingRight {
  std::string what;
  std::string needs;
};

/// What `asked` facts lack; empty: all of them can be learnt.
[[nodiscard]] std::vector<MissingRight> missing_rights(FactSet asked, const ClientRights& rights);

/// A warning for each of them, with the way to mend it.
void warn_of_missing_rights(FactSet asked, const Logger& log);

}  // namespace limpid
