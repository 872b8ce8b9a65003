// Names of the counters, in the order of the enumeration.
#include "relay/counters.h"

namespace limpid {
namespace {

constexpr std::array<std::string_view, kCounterCount> kNames{"flows_total",
                                                             "flows_ended",
                                                             "bytes_up",
                                                             "bytes_down",
                                                             "refused_direct",
                                                             "refused_self",
                                                             "refused_forbidden_target",
                                                             "refused_limit",
                                                             "rejected",
                                                             "dropped",
                                                             "sniffed",
                                                             "sniffed_unknown",
                                                             "names_asked",
                                                             "names_cached",
                                                             "names_learnt",
                                                             "names_hinted",
                                                             "name_unresolved",
                                                             "refused_proxy_header",
                                                             "connect_refused",
                                                             "connect_timeout",
                                                             "connect_unreachable",
                                                             "connect_failed",
                                                             "target_failovers",
                                                             "upstream_failovers",
                                                             "upstream_direct",
                                                             "upstream_refused",
                                                             "upstream_failed",
                                                             "upstream_timeout",
                                                             "upstream_down",
                                                             "source_unavailable",
                                                             "source_port_kept",
                                                             "source_port_fallback",
                                                             "source_fallback_none",
                                                             "client_resets",
                                                             "target_resets",
                                                             "idle_timeouts",
                                                             "killed",
                                                             "spliced_bytes",
                                                             "udp_sessions_total",
                                                             "udp_sessions_ended",
                                                             "udp_datagrams_up",
                                                             "udp_datagrams_down",
                                                             "udp_dropped",
                                                             "udp_filtered",
                                                             "udp_ttl_expired",
                                                             "udp_evicted",
                                                             "udp_icmp_errors",
                                                             "cut_through",
                                                             "udp_cut_through",
                                                             "cut_through_bytes_up",
                                                             "cut_through_bytes_down",
                                                             "access_log_dropped"};

}  // namespace

std::string_view to_string(Counter counter) noexcept {
  return kNames.at(static_cast<std::size_t>(counter));
}

}  // namespace limpid
