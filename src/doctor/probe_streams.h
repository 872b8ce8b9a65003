// The sockets of a probe: clients that dial, a target that echoes, in the probe's namespaces.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "doctor/probe_net.h"
#include "doctor/probe_table.h"
#include "doctor/probe_verdict.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid::doctor {

/// How far this host's counters say that a stream has come.
enum class Progress : std::uint8_t {
  unknown,
  delivered,  ///< a packet of it came to the listener
  lost,       ///< more than one was lost on the way there, or its answer was: it is of no use to wait for a third
};
using ReadProgress = std::function<std::vector<Progress>()>;

/// All streams at once, each until its echo is back, it is known to be lost, or a few seconds have passed. `relays`: the proxy is known to
/// relay to the dialled address, so the echo is waited for.
[[nodiscard]] Result<std::vector<ProbeOutcome>> run_streams(const ProbeNet& net,
                                                            const std::vector<ProbeStream>& streams, bool relays,
                                                            const ReadProgress& read_progress);

/// Connections of the client's to a port of this host itself, in both families.
class DirectCalls {
 public:
  [[nodiscard]] static DirectCalls start(const ProbeNet& net, Port port);
  /// Whether one is, or is soon, accepted. Ends them all.
  [[nodiscard]] bool succeed();

 private:
  std::vector<UniqueFd> callers_;
  std::chrono::steady_clock::time_point begun_;
};

enum class Answer : std::uint8_t {
  answered,  ///< a connection, or a refusal
  silence,
  failed,  ///< it could not even be asked
};
/// One connection to a real target, as `source` or as this host itself.
[[nodiscard]] Answer ask_target(const SocketAddress& target, const std::optional<IpAddress>& source,
                                std::uint32_t mark);

}  // namespace limpid::doctor
