// UdpAssociation: what a UDP session has besides when it goes through a SOCKS5 upstream: the control connection, the handshake on it, and the datagrams
// that wait for its end. The association lasts as long as the control connection (RFC 1928, section 7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/unique_fd.h"
#include "policy/decision.h"
#include "upstream/group.h"
#include "upstream/handshake.h"

namespace limpid {

struct UdpAssociation {
  UpstreamGroup& group;   ///< outlives the session
  Dial wanted;            ///< of the first datagram
  std::string name = {};  ///< where it goes in place of that address, if it goes by name; the upstream looks it up
  UpstreamGroup::Tried tried = 0;
  unsigned member = 0;
  SocketAddress server = {};  ///< where the member was when it was dialled
  UniqueFd control = {};
  std::optional<Handshake> handshake = {};  ///< while it is under way
  std::optional<SocketAddress> relay = {};  ///< where datagrams go to and come from, once it is there
  std::uint64_t give_up_ms = 0;             ///< of the handshake
  struct Waiting {
    SocketAddress destination;
    std::vector<std::byte> payload;
  };
  std::vector<Waiting> waiting = {};  ///< first datagrams, kMostWaiting at most

  /// An application sends a few before the first answer; what is more would be lost on a slow line too.
  static constexpr std::size_t kMostWaiting = 16;
};

}  // namespace limpid
