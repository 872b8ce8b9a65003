// See live_probe.h. One round of poll for all streams at once; what did not come back within the patience is located by the
// counters of the probe's table.
#include "doctor/live_probe.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <tuple>
#include <vector>

#include "doctor/counters.h"
#include "doctor/janitor.h"
#include "doctor/probe_net.h"
#include "doctor/probe_streams.h"
#include "doctor/probe_table.h"
#include "doctor/probe_verdict.h"
#include "intercept/install.h"
#include "intercept/nft.h"
#include "limpid/transparent.h"
#include "net/endpoint.h"
#include "net/namespace.h"
#include "net/netlink.h"

namespace limpid::doctor {
namespace {

std::string deletion() {
  return render_deletion({{.family = "inet", .name = std::string(kProbeTable)}});
}

/// What a probe may leave behind: its table, and routes to its client.
void clean_up(const std::optional<std::string>& via) {
  std::ignore = feed_nft(NftMode::apply, deletion(), "the probe's table");
  if (!via) return;
  auto socket = RouteSocket::open();
  if (!socket) return;
  for (const RouteSpec& route : probe_routes(*via)) std::ignore = socket->delete_route(route);
}

/// Links end with their namespace, a moment after its last descriptor (cleanup_net in net/core/net_namespace.c).
void await_links_gone() {
  auto socket = RouteSocket::open();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (socket && std::chrono::steady_clock::now() < deadline) {
    const auto links = socket->links();
    if (!links ||
        std::ranges::none_of(*links, [](const LinkInfo& l) { return l.name == kClientLink || l.name == kTargetLink; }))
      return;
    (void)::poll(nullptr, 0, 2);
  }
}

std::optional<Port> choose_port(const PortSet& ports, std::uint16_t usual) {
  if (ports.empty()) return std::nullopt;
  return ports.contains(Port{usual}) ? Port{usual} : ports.ranges().front().first;
}

std::vector<ProbeStream> choose_streams(const Facts& facts, const Scope& scope) {
  std::vector<ProbeStream> streams;
  const auto tcp = choose_port(scope.tcp, 80);
  const auto udp = choose_port(scope.udp, 53);
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    if (!(family == Family::ipv4 ? scope.ipv4 : scope.ipv6 && facts.survey.ipv6_available)) continue;
    const auto add = [&](Transport transport, Port port) {
      streams.push_back({.transport = transport,
                         .family = family,
                         .client = probe_client(family),
                         .target = probe_target(family),
                         .port = port});
    };
    if (tcp) add(Transport::tcp, *tcp);
    if (udp) add(Transport::udp, *udp);
  }
  return streams;
}

bool contains(const std::vector<Prefix>& networks, const IpAddress& address) {
  return std::ranges::any_of(networks,
                             [&](const Prefix& p) { return p.family() == address.family() && p.contains(address); });
}

/// Why this scope cannot be probed; empty: it can.
std::string why_not(const Judged& judged, const ProbeStream& stream, bool in_front) {
  const Scope& scope = judged.scope;
  if (!scope.to_prefixes.empty() && !contains(scope.to_prefixes, stream.target)) {
    return fmt::format("--to-net leaves out {}, the address that nobody has and that is probed",
                       stream.target.to_string());
  }
  if (contains(scope.excluded, stream.target))
    return fmt::format("--exclude names {}, which is probed", stream.target.to_string());
  const bool from_all = scope.from_interfaces.empty() && scope.from_prefixes.empty();
  if (!from_all && !contains(scope.from_prefixes, stream.client) && !in_front) {
    return "--from names networks only, and the probe's client is in none of them: a client of theirs has to try";
  }
  return {};
}

bool has_listener(const Facts& facts, const Judged& judged) {
  const auto any = [&](const std::vector<ServerSocket>& sockets) {
    return std::ranges::any_of(sockets,
                               [&](const ServerSocket& s) { return s.local.port == judged.ownership.listener; });
  };
  return any(facts.tcp_listeners) || any(facts.udp_sockets);
}

/// The interface in front of which the client has to stand, if the scope names some.
std::optional<std::string> choose_via(const Facts& facts, const Scope& scope,
                                      const std::optional<std::string>& wanted) {
  if (wanted) return wanted;
  for (const std::string& name : scope.from_interfaces) {
    const auto found = std::ranges::find_if(facts.interfaces, [&](const Interface& i) { return i.link.name == name; });
    if (found != facts.interfaces.end() && found->link.up && found->link.ethernet) return name;
  }
  if (!scope.from_interfaces.empty()) return scope.from_interfaces.front();
  return std::nullopt;
}

Finding unable(std::string summary, const Judged& judged) {
  return skipped(Group::probe, "probe", std::move(summary), judged.ownership.name);
}

/// A listener's kernel answers a connection by itself; a relay may be slow with a datagram that was delivered.
std::vector<Progress> read_progress(const std::vector<ProbeStream>& streams, const ProbeStations& stations) {
  std::vector<Progress> progress(streams.size(), Progress::unknown);
  const auto listing = read_ruleset();
  if (!listing) return progress;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const ProbeTrace trace = read_trace(*listing, streams[i], stations);
    const bool arrived_twice = !trace.prerouting.empty() && trace.prerouting.front() > 1;
    const bool delivered = !trace.input.empty() && trace.input.back() != 0;
    if (arrived_twice && (streams[i].transport == Transport::tcp || !delivered)) {
      progress[i] = Progress::lost;
    } else if (delivered) {
      progress[i] = Progress::delivered;
    }
  }
  return progress;
}

/// The probe's target is nobody's address, and there is one probe at a time.
bool waits(const std::vector<WaitingConnection>& waiting, const ProbeStream& stream) {
  return stream.transport == Transport::tcp && std::ranges::any_of(waiting, [&](const WaitingConnection& connection) {
           return connection.local.address.unmapped() == stream.target && connection.local.port == stream.port &&
                  connection.client.address.unmapped() == stream.client;
         });
}

Findings judge_all(Facts& facts, const Judged& judged, const std::vector<ProbeStream>& streams,
                   const ProbeStations& stations, const std::vector<ProbeOutcome>& outcomes) {
  const auto listing = read_ruleset();
  if (!listing) return {unable(fmt::format("its counters could not be read: {}", listing.error().message()), judged)};
  Findings findings;
  ProbeEvidence& evidence = facts.evidence[judged.ownership.name];
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const ProbeTrace trace = read_trace(*listing, streams[i], stations);
    if (!trace.input.empty() && trace.input.back() != 0) evidence.accepted.push_back(streams[i].family);
    findings.push_back(judge_probe(facts, judged, streams[i], stations, trace, outcomes[i]));
  }
  return merge_alike(std::move(findings));
}

}  // namespace

Findings probe_live(Facts& facts, const Judged& judged, const ProbeRequest& request) {
  if (!judged.installed) return {unable("only what is installed can be probed", judged)};
  if (!judged.scope_problem.empty()) return {unable(judged.scope_problem, judged)};
  if (judged.scope.tcp.empty() && judged.scope.udp.empty())
    return {unable("its rules are not there: see rules-missing", judged)};
  if (!judged.scope.forwarded)
    return {unable("only this host's own programs are in scope: the probe sends as somebody else", judged)};
  if (judged.draining) return {unable("it captures nothing new any more", judged)};
  if (!has_listener(facts, judged)) return {unable("nothing listens, so there is nobody to reach", judged)};
  if (judged.ownership.backend == Backend::ebpf && !judged.alive) {
    return {
        unable("the probe's own interface is new, and nobody is there to attach the eBPF programs to it: let a client "
               "try, or ask "
               "`limpid explain`",
               judged)};
  }
  if (!facts.ruleset) return {unable(facts.ruleset_problem, judged)};
  const auto via = choose_via(facts, judged.scope, request.via);
  std::vector<ProbeStream> streams = choose_streams(facts, judged.scope);
  Findings findings;
  std::erase_if(streams, [&](const ProbeStream& stream) {
    const std::string reason = why_not(judged, stream, via.has_value());
    if (!reason.empty()) findings.push_back(skipped(Group::probe, "probe", reason, stream.name()));
    return !reason.empty();
  });
  if (streams.empty()) return merge_alike(std::move(findings));

  const auto lock = lock_tracing("doctor");  // two probes would count each other's packets
  if (!lock) return {unable(lock.error().message(), judged)};
  clean_up(via);  // of a probe that was killed together with its janitor
  auto janitor = Janitor::start([via] { clean_up(via); });
  if (!janitor) return {unable(janitor.error().message(), judged)};
  const ProbeStations stations = find_stations(facts);
  if (auto loaded = feed_nft(NftMode::apply, deletion() + render_probe_table(streams, stations, judged.ownership.mark),
                             "the probe's table");
      !loaded) {
    return {unable(loaded.error().message(), judged)};
  }
  const bool with_ipv6 = std::ranges::any_of(streams, [](const ProbeStream& s) { return s.family == Family::ipv6; });
  auto net = ProbeNet::build(facts, via, with_ipv6);
  if (!net) return {unable(fmt::format("its network cannot be made: {}", net.error().message()), judged)};
  const std::uint64_t filtered_before = read_reverse_path_drops();
  const std::uint64_t martians_before = read_martian_sources();
  auto direct = DirectCalls::start(*net, judged.ownership.listener);
  auto outcomes = run_streams(*net, streams, judged.ownership.keeper == Keeper::process,
                              [&] { return read_progress(streams, stations); });
  if (!outcomes) return {unable(outcomes.error().message(), judged)};
  const std::uint64_t filtered = read_reverse_path_drops();
  const bool dropped = filtered > filtered_before || read_martian_sources() > martians_before;
  facts.reverse_path_drops_rise = facts.reverse_path_drops_rise || filtered > filtered_before;
  facts.reverse_path_drops = filtered;
  const auto waiting = read_waiting();
  for (std::size_t i = 0; i < streams.size(); ++i) {
    ProbeOutcome& outcome = (*outcomes)[i];
    outcome.dropped_by_source_validation = dropped;
    outcome.waits = !outcome.echoed && waits(waiting, streams[i]);
  }
  append(findings, judge_all(facts, judged, streams, stations, *outcomes));
  facts.evidence[judged.ownership.name].reachable_tcp = direct.succeed();
  net = limpid::failure("use", "the probe's network", "it is gone");
  await_links_gone();
  return findings;
}

Findings probe_return_path(const Judged& judged, const SocketAddress& target, const IpAddress& client) {
  const std::string subject = target.to_string();
  if (!judged.installed)
    return {skipped(Group::probe, "return-path", "nothing is installed that would bring answers back", subject)};
  const std::uint32_t bypass = judged.ownership.mark.bypass;
  const Answer own = ask_target(target, std::nullopt, bypass);
  if (own == Answer::failed)
    return {skipped(Group::probe, "return-path", "this host has no way to the target", subject)};
  if (own == Answer::silence) {
    return {skipped(Group::probe, "return-path",
                    "the target does not answer this host's own address either: it is down, or unreachable", subject)};
  }
  const Answer as_client = ask_target(target, client, bypass);
  if (as_client == Answer::failed) {
    return {skipped(Group::probe, "return-path", fmt::format("no connection can be opened as {}", client.to_string()),
                    subject)};
  }
  if (as_client == Answer::answered) {
    return {ok(Group::probe, "return-path",
               fmt::format("the target's answers to {} come back through this host", client.to_string()), subject)};
  }
  const auto source = source_towards(target, bypass);
  Remedy remedy;
  if (source) {
    remedy.paste = {fmt::format("ip {} route replace {} via {}", client.family() == Family::ipv4 ? "-4" : "-6",
                                client.to_string(), source->to_string())};
  }
  remedy.advice =
      "on the target, or on the router before it (a network is better than one address); or use --source none here";
  return {failure(
      Group::probe, "return-path",
      fmt::format(
          "the target answers this host, but its answers to {} do not come back through this host: it has another way "
          "to that address",
          client.to_string()),
      subject, std::move(remedy))};
}

}  // namespace limpid::doctor
