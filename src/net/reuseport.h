// How datagrams are spread over the listeners of one port (SO_REUSEPORT).
#pragma once

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// By the client's address and port alone, so that all of a client's datagrams come to one of the `listeners`. bpf_sk_assign() lets the kernel choose
/// anew (inet_lookup_reuseport), by the original destination too; `tproxy` does not. For the whole group of `fd`.
[[nodiscard]] Status spread_by_client(int fd, Family family, unsigned listeners);

}  // namespace limpid
