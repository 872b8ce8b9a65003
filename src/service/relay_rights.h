// What the process that relays may still do once it has begun: a user of its own, few capabilities, no way back. Decided from the options, tried where the kernel
// alone knows. docs/privileges.md is the same for people.
#pragma once

#include <vector>

#include "base/confinement.h"
#include "base/log.h"
#include "limpid/error.h"
#include "service/service.h"

namespace limpid {

struct RelayRights {
  std::vector<unsigned> capabilities;  ///< CAP_…
  bool keeps_user = false;             ///< pins of cut-through belong to root
};

/// What the kernel or the file system answers.
struct RelaySurroundings {
  bool raw_may_mark = true;       ///< CAP_NET_RAW is enough for SO_MARK (Linux 5.17)
  bool reads_settings = true;     ///< the user that it will be can read the configuration, and what that names, anew
  bool handles_programs = false;  ///< flows are cut through, or an earlier process has left some
};

/// Pure.
[[nodiscard]] RelayRights choose_relay_rights(const ServiceOptions& options, const RelaySurroundings& surroundings);

/// Makes this process what it relays as; with `--sandbox off`, nothing. It must have one thread only: capabilities belong to threads. Where it may not change its user
/// (a unit without CAP_SETUID, a user namespace with a single user), it stays who it is.
[[nodiscard]] Status confine_relay(const ServiceOptions& options, bool handles_programs, const Logger& log);

}  // namespace limpid
