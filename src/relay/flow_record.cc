// Names of the ways in which a flow ends, and of where its name comes from, as they stand in the access log.
#include "relay/flow_record.h"

namespace limpid {

std::string_view to_string(FlowEnd end) noexcept {
  switch (end) {
    case FlowEnd::closed: return "closed";
    case FlowEnd::client_reset: return "client_reset";
    case FlowEnd::target_reset: return "target_reset";
    case FlowEnd::connect_refused: return "connect_refused";
    case FlowEnd::connect_timeout: return "connect_timeout";
    case FlowEnd::connect_unreachable: return "connect_unreachable";
    case FlowEnd::connect_failed: return "connect_failed";
    case FlowEnd::source_unavailable: return "source_unavailable";
    case FlowEnd::idle_timeout: return "idle_timeout";
    case FlowEnd::refused_direct: return "refused_direct";
    case FlowEnd::refused_self: return "refused_self";
    case FlowEnd::refused_forbidden_target: return "refused_forbidden_target";
    case FlowEnd::refused_limit: return "refused_limit";
    case FlowEnd::refused_proxy_header: return "refused_proxy_header";
    case FlowEnd::upstream_refused: return "upstream_refused";
    case FlowEnd::upstream_failed: return "upstream_failed";
    case FlowEnd::upstream_timeout: return "upstream_timeout";
    case FlowEnd::upstream_down: return "upstream_down";
    case FlowEnd::name_unresolved: return "name_unresolved";
    case FlowEnd::stopped: return "stopped";
    case FlowEnd::unanswered: return "unanswered";
    case FlowEnd::evicted: return "evicted";
    case FlowEnd::killed: return "killed";
    case FlowEnd::rejected: return "rejected";
    case FlowEnd::dropped: return "dropped";
    case FlowEnd::error: return "error";
  }
  return "";
}

std::string_view to_string(NameSource source) noexcept {
  return source == NameSource::dns_hint ? "dns-hint" : "first-bytes";
}

std::string_view to_string(Protocol protocol) noexcept {
  return protocol == Protocol::tcp ? "tcp" : "udp";
}

}  // namespace limpid
