// A fixed target on this host, beside interception of this host's own traffic: what the target itself sends must not come
// back to it.
#pragma once

#include "base/log.h"
#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/interception.h"

namespace limpid {

/// Whether an address is one of this host's, loopback included.
[[nodiscard]] Result<bool> is_of_this_host(const IpAddress& address);

/// Excludes the users as whom the target runs from a scope with local traffic, and says so. An error where they cannot be told
/// from the programs that are meant: nobody listens yet, or the target runs as root. What the flags say about programs is taken as
/// an answer to that.
[[nodiscard]] Status exclude_target(Scope& scope, Port target, const Logger& log);

}  // namespace limpid
