// Explanations and followed packets as text for people and as JSON for programs (schema: docs/explain.md). Pure.
#pragma once

#include <string>

#include "explain/explain.h"
#include "explain/live_trace.h"

namespace limpid {

/// Several lines; the last one is "verdict: …". `unicode`: the reader's locale can show an arrow.
[[nodiscard]] std::string render_text(const Explanation& explanation, bool unicode);
[[nodiscard]] std::string render_json(const Explanation& explanation);

/// Several lines; the last one is "  verdict: …".
[[nodiscard]] std::string render_text(const FollowedPacket& packet, Transport transport, bool unicode);
/// One line.
[[nodiscard]] std::string render_json(const FollowedPacket& packet, Transport transport);

}  // namespace limpid
