// Who holds a TCP port: for the error message that a busy port gives.
#pragma once

#include <string>

#include "limpid/address.h"

namespace limpid {

/// "nginx (pid 812)" for a listening TCP socket on `port` of this network namespace, found through /proc; empty where it cannot be
/// found. Slow (walks /proc): for error messages only.
[[nodiscard]] std::string find_port_owner(Port port);

}  // namespace limpid
