// /proc/net/{tcp,udp}{,6}: the same sockets as socket_diag.h's, for kernels whose sock_diag is a module that is not there (OpenWrt's
// kmod-inet-diag). Called by socket_diag.cc, and by its tests as the second opinion.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "net/socket_diag.h"

namespace limpid {

/// Those on `port`, of both families; without a port all of them. Neither `transparent` nor `mark` is known, and no socket of IPv6
/// is known to be `ipv6_only`. Lines that cannot be read are passed over.
[[nodiscard]] std::vector<ServerSocket> server_sockets_in_proc(Transport transport, std::optional<Port> port);

/// One line of these files, whose fields proc_net_tcp.rst explains. Empty for the heading, for a socket that is no server's and for
/// what makes no sense.
[[nodiscard]] std::optional<ServerSocket> read_proc_socket(Transport transport, Family family, std::string_view line);

}  // namespace limpid
