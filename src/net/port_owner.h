// Who holds a port: for the error message that a busy port gives, and to explain what else is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/port_set.h"
#include "net/endpoint.h"

namespace limpid {

/// "nginx (pid 812)" for a listening TCP socket on `port` of this network namespace; empty where it
/// cannot be found. Slow (walks /proc): for messages only.
[[nodiscard]] std::string find_port_owner(Port port);
/// The same for a UDP socket that is bound to `port`.
[[nodiscard]] std::string find_udp_port_owner(Port port);

struct PortProcess {
  int pid = 0;
  std::string name;  ///< what it calls itself, printable
};
/// A process that receives what is sent to the port: a TCP listener's, or a UDP socket's. As slow.
[[nodiscard]] std::optional<PortProcess> find_port_process(Transport transport, Port port);

/// That a port cannot be listened on, because of whom: "listen on port 80: it is in use by nginx (pid 812)". As slow.
[[nodiscard]] std::unexpected<Error> port_in_use(Transport transport, Port port, std::string_view remedy);

struct UdpServer {
  Port port;
  std::string process;  ///< "dnsmasq (pid 812)"; empty where it cannot be found
};

/// Who receives datagrams to one of `ports` on any address of this host: a port and process once each, ordered by port,
/// `most` of them at most. As slow.
[[nodiscard]] std::vector<UdpServer> find_wildcard_udp_servers(const PortSet& ports, std::size_t most);

/// As which users the processes run that hold a TCP listener or a UDP socket on `port` in this network namespace: each user once, in
/// order. As slow.
[[nodiscard]] std::vector<std::uint32_t> find_port_users(Port port);

}  // namespace limpid
