// Sends single packets through this host's network stack: as if one had arrived at an interface, or out of a socket that looks like some
// user's. What becomes of them is for the caller to see to: nothing here keeps them from arriving.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "net/endpoint.h"

namespace limpid {

/// `packet`, from its IP header on, in an Ethernet frame for `interface`, which must be up.
[[nodiscard]] Result<std::vector<std::byte>> frame_for(const std::string& interface, std::span<const std::byte> packet);

/// The kernel takes `packet`, from its IP header on, as one that has just arrived at `interface`, in this thread's network namespace. It
/// comes in an Ethernet frame for that interface, so everything from its tc ingress hook on sees it. Needs CAP_BPF and CAP_NET_ADMIN
/// in the first user namespace, and kernel 5.18.
[[nodiscard]] Status inject_packet(const std::string& interface, std::span<const std::byte> packet);

struct LocalProbe {
  Transport transport = Transport::tcp;
  std::optional<std::uint32_t> user;  ///< whose socket it is; empty: the caller's
  std::optional<std::uint32_t> group;
  std::optional<SocketAddress> source;  ///< an address of this host's, port 0: any. Empty: the kernel chooses
  SocketAddress destination;
};

/// A socket that is ready to send one packet, and has sent nothing.
struct LocalProbeSocket {
  UniqueFd fd;
  Port port;  ///< its own
};
/// `sequence`: that of the SYN, for TCP (TCP_REPAIR). Needs CAP_NET_ADMIN for that, and CAP_SETUID and CAP_SETGID for another user.
[[nodiscard]] Result<LocalProbeSocket> open_local_probe(const LocalProbe& probe, std::uint32_t sequence);
/// Sends the SYN, or a datagram with `payload`. Fails as the system call does: the kernel may have no way for it.
[[nodiscard]] Status send_local_probe(const LocalProbeSocket& socket, const LocalProbe& probe,
                                      std::span<const std::byte> payload);

}  // namespace limpid
