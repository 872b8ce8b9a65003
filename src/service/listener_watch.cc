// What packets can be handed to is judged in intercept/listener_check.h; here is what is said of it.
#include "service/listener_watch.h"

#include <fmt/format.h>

#include <utility>

#include "intercept/listener_check.h"

namespace limpid {

std::string ListenerWatch::find_missing() {
  complete_ipv4_ = complete_ipv6_ = true;
  std::string missing;
  const auto states = find_listeners(plan_.inputs.scope, plan_.inputs.ownership.listener);
  if (!states) return missing;  // not known is not missing
  for (const ListenerState& state : *states) {
    if (state.readiness == Readiness::ready) continue;
    (state.family == Family::ipv4 ? complete_ipv4_ : complete_ipv6_) = false;
    missing += fmt::format("{}{} on {}", missing.empty() ? "" : ", ", to_string(state.transport),
                           IpAddress::loopback(state.family).to_string());
  }
  return missing;
}

void ListenerWatch::look() {
  const std::string before = std::exchange(missing_, find_missing());
  if (missing_ == before) return;
  const auto port = field("port", plan_.inputs.ownership.listener.value);
  if (missing_.empty()) {
    log_.info("the proxy listens", {port});
    return;
  }
  std::string outcome =
      plan_.inputs.fail == FailMode::open ? "is forwarded as usual (--fail open)" : "is rejected (--fail closed)";
  // A program cannot tell one that lacks IP_TRANSPARENT.
  if (plan_.inputs.ownership.backend == Backend::ebpf) outcome += ", unless one that is not transparent gets it";
  log_.warning("no transparent listener of the proxy: what is in scope " + outcome, {port, field("missing", missing_)});
}

}  // namespace limpid
