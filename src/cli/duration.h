// Durations as users write them on the command line, the same for every verb.
#pragma once

#include <chrono>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

/// "30", "30s", "500ms", "5m", "2h"; a bare number means seconds. At most a year. The error names `flag`.
[[nodiscard]] Result<std::chrono::milliseconds> parse_duration(std::string_view flag, std::string_view text);

}  // namespace limpid
