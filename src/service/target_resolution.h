// From the names that a user gave to the targets that a plain relay dials, as values: which of them are ourselves, and which are on
// this host.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "policy/target_list.h"

namespace limpid {

/// As typed: a host's name or address, and a port.
struct TargetName {
  std::string host;
  Port port;
  /// "HOST:PORT", an IPv6 address in brackets.
  [[nodiscard]] std::string to_string() const;
  /// Nothing to ask a resolver for.
  [[nodiscard]] bool is_address() const;
};

/// More addresses of one name than this are not tried: a DNS answer is somebody else's.
inline constexpr std::size_t kMostAddresses = 32;

/// The addresses of a name, kMostAddresses at most, with its port, as getaddrinfo(3) orders them. Blocks.
[[nodiscard]] Result<std::vector<SocketAddress>> resolve_name(const TargetName& name);

/// Where connections arrive at ourselves.
struct OwnAddresses {
  std::vector<SocketAddress> listeners;  ///< as bound: may be 0.0.0.0 and ::
  std::vector<IpAddress> host;           ///< of this host's interfaces
};

/// Whether a connection to `target` would be accepted by one of our own listeners.
[[nodiscard]] bool reaches_ourselves(const SocketAddress& target, const OwnAddresses& own);

struct TargetSelection {
  TargetGroups groups;                   ///< without hosts of which nothing remains
  std::vector<SocketAddress> ourselves;  ///< left out: our own listeners
};

/// `resolved`: each host's addresses.
[[nodiscard]] TargetSelection select_targets(std::span<const std::vector<SocketAddress>> resolved,
                                             const OwnAddresses& own);

}  // namespace limpid
