// What packets can be handed to: nf_tproxy_get_sock_v4 (net/ipv4/netfilter/nf_tproxy_ipv4.c) looks for a socket on the address and port of
// the rule, and nft_tproxy_eval_v4 takes it only if it is transparent.
#include "service/listener_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "intercept/table_writer.h"
#include "net/socket_diag.h"

namespace limpid {
void ListenerWatch::name_missing(Transport transport, std::string& missing) {
  const auto servers = server_sockets(transport, plan_.inputs.ownership.listener);
  if (!servers) return;  // not known is not missing
  for (const Family family : kFamilies) {
    if (!in_scope(plan_.inputs.scope, family)) continue;
    const bool there = std::ranges::any_of(*servers, [&](const ServerSocket& server) {
      return !server.connected && server.hears_loopback(family) && server.transparent.value_or(true);
    });
    if (there) continue;
    (family == Family::ipv4 ? complete_ipv4_ : complete_ipv6_) = false;
    missing += fmt::format("{}{} on {}", missing.empty() ? "" : ", ", transport == Transport::tcp ? "TCP" : "UDP",
                           family == Family::ipv4 ? "127.0.0.1" : "::1");
  }
}

std::string ListenerWatch::find_missing() {
  complete_ipv4_ = complete_ipv6_ = true;
  std::string missing;
  if (!plan_.inputs.scope.tcp.empty()) name_missing(Transport::tcp, missing);
  if (!plan_.inputs.scope.udp.empty()) name_missing(Transport::udp, missing);
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
  log_.warning(plan_.inputs.fail == FailMode::open
                   ? "no transparent listener of the proxy: what is in scope is forwarded as usual (--fail open)"
                   : "no transparent listener of the proxy: what is in scope is rejected (--fail closed)",
               {port, field("missing", missing_)});
}

}  // namespace limpid
