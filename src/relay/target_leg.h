// Opens the target leg: the socket on which Limpid speaks to the target, as the client where the source mode says so.
#pragma once

#include <chrono>
#include <cstdint>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "policy/decision.h"
#include "relay/counters.h"

namespace limpid {

struct TargetLegOptions {
  std::uint32_t bypass_mark = 0;
  std::chrono::seconds keepalive_idle{0};
};

struct TargetLeg {
  UniqueFd fd;                           ///< its connection is under way
  SourceMode source = SourceMode::none;  ///< what the target will really see: none, address or address_and_port
};

/// Falls back as `dial.source` permits and counts each fallback. The error's code tells why nothing could be opened.
[[nodiscard]] Result<TargetLeg> open_target_leg(const Dial& dial, const SocketAddress& client,
                                                const TargetLegOptions& options, Counters& counters);

}  // namespace limpid
