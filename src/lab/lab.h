// A client – router – server network in namespaces, for demonstrations, tests and learning. Needs no privileges where the kernel
// allows user namespaces. The namespaces have no names on disk: they end with the processes in them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

struct LabOptions {
  unsigned servers = 1;  ///< 1…8
};

/// One host of the lab.
struct LabHost {
  std::string name;  ///< "client", "router", "server", "server2", …
  UniqueFd network_namespace;
  IpAddress ipv4;
  IpAddress ipv6;
};

/// Addresses (documentation prefixes): client 192.0.2.2 and 2001:db8:1::2 behind the router's 192.0.2.1 and 2001:db8:1::1 (its
/// interface "lan"); server n 198.51.100.(1+n)... see docs/lab.md. The router forwards both families.
class Lab {
 public:
  [[nodiscard]] static Result<Lab> create(const LabOptions& options);
  [[nodiscard]] const std::vector<LabHost>& hosts() const noexcept { return hosts_; }
  [[nodiscard]] const LabHost* find(std::string_view name) const noexcept;

 private:
  std::vector<LabHost> hosts_;
};

}  // namespace limpid
