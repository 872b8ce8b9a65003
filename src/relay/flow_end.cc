// The translations, each a switch without default so that a new end cannot be forgotten.
#include "relay/flow_end.h"

#include <cerrno>

namespace limpid {

FlowEnd connect_failure(int code) noexcept {
  switch (code) {
    case ECONNREFUSED: return FlowEnd::connect_refused;
    case ETIMEDOUT: return FlowEnd::connect_timeout;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case ENONET:
    case EACCES:  // a prohibit route or an ICMP "administratively prohibited"
    case EPERM:   // the host's own firewall
      return FlowEnd::connect_unreachable;
    case EADDRINUSE:
    case EADDRNOTAVAIL: return FlowEnd::source_unavailable;
    default: return FlowEnd::connect_failed;
  }
}

void count_end(Counters& counters, FlowEnd end, std::uint64_t times) noexcept {
  switch (end) {
    case FlowEnd::client_reset: counters.add(Counter::client_resets, times); break;
    case FlowEnd::target_reset: counters.add(Counter::target_resets, times); break;
    case FlowEnd::connect_refused: counters.add(Counter::connect_refused, times); break;
    case FlowEnd::connect_timeout: counters.add(Counter::connect_timeout, times); break;
    case FlowEnd::connect_unreachable: counters.add(Counter::connect_unreachable, times); break;
    case FlowEnd::connect_failed: counters.add(Counter::connect_failed, times); break;
    case FlowEnd::source_unavailable: counters.add(Counter::source_unavailable, times); break;
    case FlowEnd::idle_timeout: counters.add(Counter::idle_timeouts, times); break;
    case FlowEnd::refused_direct: counters.add(Counter::refused_direct, times); break;
    case FlowEnd::refused_self: counters.add(Counter::refused_self, times); break;
    case FlowEnd::refused_forbidden_target: counters.add(Counter::refused_forbidden_target, times); break;
    case FlowEnd::refused_limit: counters.add(Counter::refused_limit, times); break;
    case FlowEnd::refused_proxy_header: counters.add(Counter::refused_proxy_header, times); break;
    case FlowEnd::upstream_refused: counters.add(Counter::upstream_refused, times); break;
    case FlowEnd::upstream_failed: counters.add(Counter::upstream_failed, times); break;
    case FlowEnd::upstream_timeout: counters.add(Counter::upstream_timeout, times); break;
    case FlowEnd::upstream_down: counters.add(Counter::upstream_down, times); break;
    case FlowEnd::name_unresolved: counters.add(Counter::name_unresolved, times); break;
    case FlowEnd::killed: counters.add(Counter::killed, times); break;
    case FlowEnd::rejected: counters.add(Counter::rejected, times); break;
    case FlowEnd::dropped: counters.add(Counter::dropped, times); break;
    case FlowEnd::closed:
    case FlowEnd::stopped:
    case FlowEnd::unanswered:
    case FlowEnd::evicted:
    case FlowEnd::error: break;
  }
}

FlowEnd refusal_end(Refusal refusal) noexcept {
  switch (refusal) {
    case Refusal::direct: return FlowEnd::refused_direct;
    case Refusal::self: return FlowEnd::refused_self;
    case Refusal::forbidden_target: return FlowEnd::refused_forbidden_target;
    case Refusal::unresolved_name: return FlowEnd::name_unresolved;
  }
  return FlowEnd::error;
}

FlowEnd end_of(const FlowVerdict& verdict) noexcept {
  return verdict.action == FlowVerdict::Action::refuse ? refusal_end(verdict.refusal) : FlowEnd::rejected;
}

void note_reset_after_finish(Flow& flow, bool is_target) noexcept {
  const Direction& from = is_target ? flow.down : flow.up;
  const Direction& to = is_target ? flow.up : flow.down;
  if (from.done && !to.done) (is_target ? flow.target : flow.client).reset = true;
}

}  // namespace limpid
