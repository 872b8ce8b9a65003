// The sockets of a probe: clients that dial, a target that echoes, in the probe's namespaces.
#pragma once

#include <optional>
#include <vector>

#include "doctor/probe_net.h"
#include "doctor/probe_table.h"
#include "doctor/probe_verdict.h"
#include "limpid/error.h"

namespace limpid::doctor {

/// All streams at once, each until its echo is back or a few seconds have passed. `relays`: the proxy is known to relay to
/// the dialled address, so the echo is waited for.
[[nodiscard]] Result<std::vector<ProbeOutcome>> run_streams(const ProbeNet& net,
                                                            const std::vector<ProbeStream>& streams, bool relays);

/// Whether the client gets a connection to a port of this host itself.
[[nodiscard]] bool reach_listener(const ProbeNet& net, Port port);

enum class Answer : std::uint8_t {
  answered,  ///< a connection, or a refusal
  silence,
  failed,  ///< it could not even be asked
};
/// One connection to a real target, as `source` or as this host itself.
[[nodiscard]] Answer ask_target(const SocketAddress& target, const std::optional<IpAddress>& source,
                                std::uint32_t mark);

}  // namespace limpid::doctor
