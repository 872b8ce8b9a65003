// `limpid flows --watch`: the list again and again, like `top -b`: over the last one on a terminal, one behind the other elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/control_flags.h"
#include "limpid/error.h"

namespace limpid {

struct WatchRhythm {
  std::chrono::milliseconds interval{2000};
  std::uint64_t count = 0;  ///< lists; 0: until somebody ends it
};

/// Out of --interval and --count as typed; empty: not given.
[[nodiscard]] Result<WatchRhythm> parse_watch_rhythm(const std::string& interval, const std::string& count);

/// `target`: what is asked of the instance, without a limit. `limit` as typed; empty: what fits on the terminal, or 100. The exit status: that of done when
/// nobody reads any more, too; a failure when the instance has gone.
[[nodiscard]] int watch_flows(const ControlFlags& instance, const std::string& target, const std::string& limit,
                              const WatchRhythm& rhythm);

}  // namespace limpid
