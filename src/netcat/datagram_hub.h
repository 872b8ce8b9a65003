// UDP with many clients and one standard input and output: everybody's datagrams are written, and answers go to whoever
// sent last, from the address which that one dialled.
#pragma once

#include "limpid/error.h"
#include "netcat/options.h"
#include "netcat/serve.h"

namespace limpid {

[[nodiscard]] Result<Ending> serve_datagrams(const NetcatOptions& options, NetcatListeners listeners);

}  // namespace limpid
