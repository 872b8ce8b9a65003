// The proxy's sockets: whether they are there, transparent, of both families, and not open to the network.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "doctor/checks.h"
#include "intercept/listener_check.h"

namespace limpid::doctor {
namespace {

std::string owner_of(const Facts& facts, Port port) {
  const auto found = facts.port_owners.find(port.value);
  return found == facts.port_owners.end() ? "a program" : found->second;
}

/// What becomes of packets that nobody takes.
std::string_view fate_of(const Judged& judged) {
  // TPROXY of iptables drops, unless a heartbeat tells its rules that nobody is there.
  if (is_iptables(judged.ownership.backend) && !judged.ownership.heartbeat) return "dropped";
  return judged.fail == FailMode::closed ? "rejected" : "forwarded as usual";
}

/// Judged by the same check as before rules are applied: one verdict for one set of sockets.
Finding say(const Facts& facts, const Judged& judged, const ListenerState& state) {
  const Port port = judged.ownership.listener;
  const std::string address = SocketAddress{.address = IpAddress::loopback(state.family), .port = port}.to_string();
  const std::string subject = fmt::format("{} {}", to_string(state.transport), address);
  const std::string_view fate = fate_of(judged);
  const std::string owner = owner_of(facts, port);
  switch (state.readiness) {
    case Readiness::absent:
    case Readiness::elsewhere: break;
    case Readiness::ready:
      if (state.known) return ok(Group::listener, "listener", fmt::format("{} listens, transparently", owner), subject);
      return skipped(Group::listener, "listener-transparent", "the kernel does not tell whether it is transparent",
                     subject);
    case Readiness::opaque:
      return failure(Group::listener, "listener-transparent",
                     fmt::format("{} listens without {}: tproxy passes it by, and what is in scope is {}", owner,
                                 state.family == Family::ipv4 ? "IP_TRANSPARENT" : "IPV6_TRANSPARENT", fate),
                     subject,
                     advise("have the proxy set the option before bind(2); in Squid `http_port ... tproxy`, in HAProxy "
                            "`bind ... transparent`"));
  }
  const std::string where =
      state.bound ? fmt::format("{} listens on {}{} only, and nothing is handed to it there", owner,
                                state.bound->to_string(), state.device.empty() ? "" : " at interface " + state.device)
                  : std::string("nothing listens there");
  return failure(Group::listener, "listener", fmt::format("{}: what is in scope is {}", where, fate), subject,
                 advise(fmt::format("start the proxy, with a transparent listener on {}", address)));
}

Findings check_sockets(const Facts& facts, const Judged& judged) {
  std::vector<ServerSocket> sockets = facts.tcp_listeners;
  sockets.insert(sockets.end(), facts.udp_sockets.begin(), facts.udp_sockets.end());
  std::erase_if(sockets, [&](const ServerSocket& s) { return s.local.port != judged.ownership.listener; });
  Findings findings;
  for (const ListenerState& state : judge_listeners(judged.scope, sockets))
    findings.push_back(say(facts, judged, state));
  return findings;
}

Findings check_exposure(const Facts& facts, const Judged& judged) {
  const Port port = judged.ownership.listener;
  std::vector<std::string> exposed;
  bool any = false;
  const auto collect = [&](const std::vector<ServerSocket>& sockets, bool wanted) {
    for (const ServerSocket& socket : sockets) {
      if (!wanted || socket.local.port != port || socket.connected) continue;
      any = true;
      if (socket.local.address.unmapped().is_loopback()) continue;
      exposed.push_back(fmt::format("{} {}", to_string(socket.transport), socket.local.to_string()));
    }
  };
  collect(facts.tcp_listeners, !judged.scope.tcp.empty());
  collect(facts.udp_sockets, !judged.scope.udp.empty());
  if (!any) return {};  // nobody listens, which is a finding of its own
  if (exposed.empty()) {
    return {ok(Group::listener, "wan-exposure", "the listener is on loopback addresses only",
               fmt::format("port {}", port.value))};
  }
  const auto evidence = facts.evidence.find(judged.ownership.name);
  if (evidence != facts.evidence.end() && evidence->second.reachable_tcp == false) {
    return {ok(Group::listener, "wan-exposure", "a firewall keeps the network away from it", exposed.front())};
  }
  const bool proven = evidence != facts.evidence.end() && evidence->second.reachable_tcp == true;
  const std::string table = "guard_" + judged.ownership.name;
  Remedy remedy;
  remedy.commands = {{"nft", "add", "table", "inet", table},
                     {"nft", "add", "chain", "inet", table, "input", "{ type filter hook input priority -10 ; }"},
                     {"nft",
                      "add",
                      "rule",
                      "inet",
                      table,
                      "input",
                      "iifname",
                      "!=",
                      "lo",
                      "fib",
                      "daddr",
                      "type",
                      "local",
                      "meta",
                      "l4proto",
                      "{ tcp, udp }",
                      "th",
                      "dport",
                      std::to_string(port.value),
                      "drop"}};
  remedy.advice = "better: have the proxy listen on 127.0.0.1 and [::1] only";
  return {warning(
      Group::listener, "wan-exposure",
      fmt::format("{} {} from the network directly: whoever connects there has not been intercepted, and the proxy "
                  "may dial itself, or anybody, for them",
                  owner_of(facts, port), proven ? "was reached" : "can be reached"),
      exposed.front(), std::move(remedy))};
}

}  // namespace

Findings check_listener(const Facts& facts) {
  if (!facts.sockets_problem.empty()) return {skipped(Group::listener, "listener", facts.sockets_problem)};
  Findings findings;
  for (const Judged& judged : facts.judged) {
    if (!judged.installed) continue;
    if (!judged.scope_problem.empty()) {
      findings.push_back(skipped(Group::listener, "listener", judged.scope_problem, judged.ownership.name));
      continue;
    }
    append(findings, check_sockets(facts, judged));
    append(findings, check_exposure(facts, judged));
  }
  return findings;
}

}  // namespace limpid::doctor
