// Where a probe's packet was lost, out of the counters along its way. Pure.
#pragma once

#include "doctor/facts.h"
#include "doctor/finding.h"
#include "doctor/probe_table.h"

namespace limpid::doctor {

/// What the probe's own sockets saw.
struct ProbeOutcome {
  bool connected = false;                     ///< the handshake, for TCP
  bool echoed = false;                        ///< the target's answer came back through the proxy
  bool waits = false;                         ///< TCP: in the end, nobody had accepted it
  bool dropped_by_source_validation = false;  ///< the martian counters went up meanwhile
};

[[nodiscard]] Finding judge_probe(const Facts& facts, const Judged& judged, const ProbeStream& stream,
                                  const ProbeStations& stations, const ProbeTrace& trace, const ProbeOutcome& outcome);

/// One finding for all streams that were lost at one place.
[[nodiscard]] Findings merge_alike(Findings findings);

}  // namespace limpid::doctor
