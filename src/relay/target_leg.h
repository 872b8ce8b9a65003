// Opens the target leg: the socket on which Limpid speaks to the target, as the client where the source mode says so.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "policy/decision.h"
#include "relay/counters.h"

namespace limpid {

struct TargetLegOptions {
  std::uint32_t bypass_mark = 0;
  std::chrono::seconds keepalive_idle{0};
  std::uint32_t smallest_mtu = 0;  ///< as in ListenOptions
  bool fast_open = false;          ///< TCP Fast Open: what the client has said already leaves with the SYN
  std::string_view interface{};    ///< as in ConnectOptions
};

struct TargetLeg {
  UniqueFd fd;                           ///< its connection is under way
  SourceMode source = SourceMode::none;  ///< what the target will really see: none, address or address_and_port
  bool routed_otherwise = false;         ///< than packets with its addresses and the bypass mark
  bool encrypted = false;                ///< `fd` is the plain end of one in TlsLegs
  std::uint16_t sent_with_syn = 0;       ///< of the client's first bytes; discard_sent() takes them off its socket
};

/// Who is to be served: the client leg (borrowed) and its address.
struct ClientSide {
  int fd = -1;
  SocketAddress address;
};

/// Falls back as `dial.source` permits and counts each fallback. The error's code tells why nothing could be opened. With
/// `fast_open`, reads ahead in the client's socket and leaves everything in it.
[[nodiscard]] Result<TargetLeg> open_target_leg(const Dial& dial, const ClientSide& client,
                                                const TargetLegOptions& options, Counters& counters);

/// Once the connection is made: what it took along is the target's, and must not be sent again. False when the client's bytes are
/// not there any more, which happens only to a connection that is gone.
[[nodiscard]] bool discard_sent(int client_fd, std::uint16_t count) noexcept;

}  // namespace limpid
