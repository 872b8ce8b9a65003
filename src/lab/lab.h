// A client – router – server network in namespaces, for demonstrations, tests and learning. Needs no privileges where
// the kernel allows user namespaces. The namespaces have no names on disk: they end with whoever holds them open.
//
//    client                       router                          server (1)
//    eth0 ─────────────────── lan        wan ─────────────────────── eth0
//    192.0.2.2/24       192.0.2.1        198.51.100.1        198.51.100.2/24
//    2001:db8:1::2/64   2001:db8:1::1    2001:db8:2::1       2001:db8:2::2/64
//
//                                                             server n (2…8)
//                                        wan<n> ──────────────────── eth0
//                                        203.0.113.(16n+1)   203.0.113.(16n+2)/28
//                                        2001:db8:(n+1)::1   2001:db8:(n+1)::2/64
//
// Those are the prefixes that RFC 5737 and RFC 3849 keep for documentation. The router forwards both families; client
// and servers have their default routes through it. Loopback is up everywhere, and every address is usable at once.
// Reverse-path filtering is off everywhere, whatever the host's own settings are: a lab behaves the same on every host.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

inline constexpr unsigned kMostLabServers = 8;

struct LabOptions {
  unsigned servers = 1;  ///< 1…kMostLabServers
};

/// One host of the lab.
struct LabHost {
  std::string name;            ///< "client", "router", "server", "server2", …, "server8"
  UniqueFd network_namespace;  ///< for enter_network_namespace(); close-on-exec
  IpAddress ipv4;              ///< of the router: the one that the client sees
  IpAddress ipv6;
};

class Lab {
 public:
  /// Builds the network. The calling thread is back in its own network namespace afterwards. Without CAP_SYS_ADMIN the
  /// calling process, which must then be single-threaded, first becomes root in a user namespace and stays there. The
  /// error is of kind `unsupported` where that is forbidden, and `usage` for a number of servers out of range.
  [[nodiscard]] static Result<Lab> create(const LabOptions& options);

  /// client, router, server, server2, …
  [[nodiscard]] const std::vector<LabHost>& hosts() const noexcept { return hosts_; }
  /// Null where there is no such host.
  [[nodiscard]] const LabHost* find(std::string_view name) const noexcept;

 private:
  std::vector<LabHost> hosts_;
};

}  // namespace limpid
