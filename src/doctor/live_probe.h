// The live probe: a real connection and a real datagram from a namespace of the probe's own, through this host's actual rules, to the
// listener, on to a target in another namespace, and back. The destination is nobody's (RFC 5737, RFC 3849), and nothing
// of it leaves the host.
#pragma once

#include <optional>
#include <string>

#include "doctor/facts.h"
#include "doctor/finding.h"
#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid::doctor {

struct ProbeRequest {
  std::optional<std::string> via;  ///< an interface in front of which the client is put
};

/// Probes one installation, and notes in `facts` what that proves.
[[nodiscard]] Findings probe_live(Facts& facts, const Judged& judged, const ProbeRequest& request);

/// Whether a target that is really there answers this host, and answers `client` through this host.
[[nodiscard]] Findings probe_return_path(const Judged& judged, const SocketAddress& target, const IpAddress& client);

}  // namespace limpid::doctor
