// Takes single entries out of the kernel's connection tracking. Nothing else is done with it here.
#pragma once

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/endpoint.h"

namespace limpid {

/// Deletes the entry that began with a packet from `source` to `destination`. That there is none is no error, and neither is a kernel
/// without connection tracking. Needs CAP_NET_ADMIN.
[[nodiscard]] Status forget_connection(Transport transport, const SocketAddress& source,
                                       const SocketAddress& destination);

}  // namespace limpid
