// The twin of bpf/intercept.bpf.c and bpf/local.h: whoever adds a decision there adds its words here.
#include "explain/ebpf_answer.h"

#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>
#include <span>

#include "bpf/layout.h"
#include "net/packet.h"
#include "net/probe.h"

namespace limpid {
namespace {

std::string_view protocol_name(Transport transport) {
  return transport == Transport::tcp ? "TCP" : "UDP";
}

std::string listener_of(const Ownership& ownership, Family family) {
  return fmt::format("{}:{}", family == Family::ipv6 ? "[::1]" : "127.0.0.1", ownership.listener.value);
}

std::string about_own_destination(const IpAddress& address) {
  if (address.is_multicast() || address.is_broadcast())
    return "the destination is multicast or broadcast, which is never intercepted";
  if (address.is_link_local()) return "the destination is link-local, which is never intercepted";
  return "the destination is an address of this host, or broadcast or anycast, which is never intercepted";
}

std::string about_exclusion(const Scope& scope, const IpAddress& address) {
  for (const Prefix& prefix : scope.excluded) {
    if (prefix.contains(address)) {
      const bool one = prefix.length() == address.bits();
      return fmt::format("the destination is excluded (--exclude {})", one ? address.to_string() : prefix.to_string());
    }
  }
  return "the destination is excluded (--exclude)";
}

std::string about_program(const limpid_policy& policy, std::optional<std::uint32_t> user) {
  const auto excluded =
      std::span(policy.never.users).first(std::min<std::size_t>(policy.never.user_count, LIMPID_MAX_IDS));
  for (const limpid_ids& ids : excluded) {
    if (user && *user >= ids.first && *user <= ids.last) return fmt::format("the program is excluded (user {})", *user);
  }
  const bool chosen = policy.only.user_count != 0 || policy.only.cgroup_count != 0;
  if (chosen && policy.never.cgroup_count == 0) return "the program is none of --uid, --cgroup";
  return chosen ? "the program is none of --uid, --cgroup, or its cgroup is excluded"
                : "the program is excluded (its cgroup)";
}

std::string about_failure(const EbpfInstallation& installation, Transport transport, const SocketAddress& destination,
                          bool rejects) {
  const limpid_policy& policy = installation.policy->policy;
  const bool dials_listener = rejects && policy.guards_listener != 0 && transport == Transport::tcp &&
                              destination.port == installation.ownership.listener;
  if (dials_listener) return "it was dialled to the proxy's own port, which would dial itself: reset";
  if (policy.draining != 0) {
    return rejects ? "the instance is draining: fail-closed rejects what is new"
                   : "the instance is draining: nothing new is intercepted";
  }
  return fmt::format("no listener on {}: {}", listener_of(installation.ownership, destination.family()),
                     rejects ? "fail-closed rejects" : "fail-open leaves it alone");
}

}  // namespace

bool EbpfAnswer::captures() const noexcept {
  return decision == LIMPID_DIVERTED || decision == LIMPID_INTERCEPTED || decision == LIMPID_TO_LOOPBACK;
}
bool EbpfAnswer::drops() const noexcept {
  return decision == LIMPID_DROPPED;
}
bool EbpfAnswer::rejects() const noexcept {
  return decision == LIMPID_REJECTED;
}

std::string words_of_decision(int decision, const EbpfInstallation& installation, Transport transport,
                              const SocketAddress& destination, std::optional<std::uint32_t> user) {
  if (!installation.policy) return std::string(decision_name(decision));
  const Scope scope = scope_of(*installation.policy);
  const PortSet& ports = transport == Transport::tcp ? scope.tcp : scope.udp;
  switch (decision) {
    case LIMPID_OWN_SOCKET: return "it carries a mark: the proxy's own traffic, or somebody else has decided about it";
    case LIMPID_OTHER_FAMILY:
      return destination.family() == Family::ipv6 ? "IPv6 is not in scope" : "IPv4 is not in scope";
    case LIMPID_OTHER_PORT:
      if (ports.empty()) return fmt::format("{} is not in scope", protocol_name(transport));
      return fmt::format("the port is not in scope ({} {})", protocol_name(transport), ports.to_string());
    case LIMPID_UNKNOWN_CONNECTION:
      return "it is not a first packet, and belongs to no flow that is intercepted: left alone";
    case LIMPID_LOCAL_DESTINATION: return about_own_destination(destination.address);
    case LIMPID_EXCLUDED_DESTINATION: return about_exclusion(scope, destination.address);
    case LIMPID_OTHER_DESTINATION: return "the destination is none of --to-net";
    case LIMPID_OTHER_SOURCE:
      return scope.forwarded ? "the client is none of --from" : "forwarded traffic is not in scope (--local-only)";
    case LIMPID_OTHER_PROGRAM: return about_program(installation.policy->policy, user);
    case LIMPID_ANSWER: return "it answers a client of a server on this host";
    case LIMPID_NOBODY_LISTENS: return about_failure(installation, transport, destination, /*rejects=*/false);
    case LIMPID_REJECTED: return about_failure(installation, transport, destination, /*rejects=*/true);
    case LIMPID_DROPPED: return "in scope, but its socket is bound to an interface: fail-closed drops it";
    case LIMPID_DIVERTED: return "it belongs to a flow that is intercepted already: delivered to its socket (eBPF)";
    case LIMPID_INTERCEPTED:
      return fmt::format("handed to the listener {} (eBPF)", listener_of(installation.ownership, destination.family()));
    case LIMPID_TO_LOOPBACK:
      return fmt::format("redirected into lo, where it is handed to the listener {} (eBPF)",
                         listener_of(installation.ownership, destination.family()));
    default: return std::string(decision_name(decision));
  }
}

Result<std::optional<EbpfAnswer>> ask_programs(const EbpfInstallation& installation, const ProbeMarks& probe,
                                               const std::string& interface, std::uint32_t mark,
                                               std::optional<std::uint32_t> user) {
  const SocketAddress from{.address = probe.source.value_or(IpAddress::any(probe.destination.family())),
                           .port = probe.source_port};
  const auto packet = probe.transport == Transport::tcp ? build_syn(from, probe.destination, probe.cookie, {})
                                                        : build_datagram(from, probe.destination, {}, {});
  const auto frame = frame_for(interface, packet);
  if (!frame) return std::unexpected(frame.error());
  const auto decision = ask_ebpf(
      installation,
      {.frame = *frame, .mark = mark, .link = static_cast<int>(::if_nametoindex(interface.c_str())), .user = user});
  if (!decision) return std::unexpected(decision.error());
  if (!*decision) return std::optional<EbpfAnswer>();
  return std::optional(
      EbpfAnswer{.decision = **decision,
                 .interface = interface,
                 .words = words_of_decision(**decision, installation, probe.transport, probe.destination, user)});
}

}  // namespace limpid
