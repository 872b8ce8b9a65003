// See probe_verdict.h. The way: arrived → marked in prerouting → routed to this host → through the input chains → answered by the
// listener → through the output chains → back at the client; then the proxy's own leg.
#include "doctor/probe_verdict.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "doctor/firewall_chain.h"
#include "intercept/listener_check.h"

namespace limpid::doctor {
namespace {

constexpr int kManglePriority = -150;  // NF_IP_PRI_MANGLE

/// The station behind which nothing was counted any more.
std::optional<std::size_t> lost_behind(const std::vector<std::uint64_t>& counts) {
  for (std::size_t i = 1; i < counts.size(); ++i) {
    if (counts[i] == 0 && counts[i - 1] != 0) return i - 1;
  }
  return std::nullopt;
}

struct Judge {
  const Facts& facts;
  const Judged& judged;
  const ProbeStream& stream;
  const ProbeStations& stations;
  const ProbeTrace& trace;
  const ProbeOutcome& outcome;

  [[nodiscard]] std::vector<FirewallChain> chains(const std::string& hook, int priority) const {
    return chains_at(facts, stream.family, hook, priority);
  }

  [[nodiscard]] static std::string names(const std::vector<FirewallChain>& found, std::string_view hook, int priority) {
    if (found.empty()) return fmt::format("a chain of the {} hook at priority {}", hook, priority);
    std::vector<std::string> texts;
    std::ranges::transform(found, std::back_inserter(texts), [](const FirewallChain& c) { return c.name(); });
    return fmt::format("{}", fmt::join(texts, " or "));
  }

  [[nodiscard]] Finding lose(std::string_view id, std::string summary, Remedy remedy = {}) const {
    return failure(Group::probe, id, std::move(summary), stream.name(), std::move(remedy));
  }

  [[nodiscard]] Remedy look_at(const std::vector<FirewallChain>& found) const {
    Remedy remedy;
    for (const FirewallChain& chain : found) {
      remedy.paste.push_back(chain.program == "nft"
                                 ? fmt::format("nft -a list chain {} {} {}", chain.family, chain.table, chain.chain)
                                 : fmt::format("{} -t {} -vnL {}", chain.program, chain.table, chain.chain));
    }
    remedy.advice = fmt::format("let {} to {} port {} pass there", stream.client.to_string(), stream.target.to_string(),
                                stream.port.value);
    return remedy;
  }

  [[nodiscard]] Finding lost_in_input(std::size_t station) const {
    const int priority = stations.input[station];
    auto found = chains("input", priority);
    const auto dropping = dropping_input_chains(facts);
    // Of several at one priority, those that look like it.
    std::vector<FirewallChain> likely;
    std::ranges::copy_if(found, std::back_inserter(likely),
                         [&](const FirewallChain& c) { return std::ranges::find(dropping, c) != dropping.end(); });
    if (!likely.empty()) found = likely;
    Remedy remedy;
    remedy.safe = !found.empty();
    for (const FirewallChain& chain : found) {
      Remedy one = chain.let_in(judged.ownership.mark);
      std::ranges::move(one.commands, std::back_inserter(remedy.commands));
      remedy.advice = one.advice;
    }
    return lose("input-drop",
                fmt::format("marked and routed to this host, then dropped in its input chains, by {}",
                            names(found, "input", priority)),
                std::move(remedy));
  }

  [[nodiscard]] Finding lost_in_routing() const {
    if (outcome.dropped_by_source_validation) {
      return lose(
          "probe-routing",
          "marked in prerouting, then dropped by source validation (rp_filter, src_valid_mark) as a martian",
          advise(
              "see the findings rp-filter and src-valid-mark; `sysctl -w net.ipv4.conf.all.log_martians=1` logs each"));
    }
    return lose(
        "probe-routing",
        fmt::format(
            "marked in prerouting, but not routed to this host: the rule for mark {} or the route in table {} is "
            "missing, or another rule comes before it",
            judged.ownership.mark.intercept_mark().to_string(), judged.ownership.table.value),
        Remedy{.paste = {fmt::format("ip {} route get {} from {} iif {} mark {:#x}",
                                     stream.family == Family::ipv4 ? "-4" : "-6", stream.target.to_string(),
                                     stream.client.to_string(), kClientLink, judged.ownership.mark.intercept)},
               .advice = "see the findings rules-missing and rule-order"});
  }

  /// TPROXY of iptables drops where nobody takes the packet, unless a heartbeat tells the rules before.
  [[nodiscard]] bool dropped_by_tproxy() const {
    if (!is_iptables(judged.ownership.backend)) return false;
    const auto& sockets = stream.transport == Transport::tcp ? facts.tcp_listeners : facts.udp_sockets;
    std::vector<ServerSocket> here;
    std::ranges::copy_if(sockets, std::back_inserter(here),
                         [&](const ServerSocket& s) { return s.local.port == judged.ownership.listener; });
    return std::ranges::any_of(judge_listeners(judged.scope, here), [&](const ListenerState& state) {
      return state.transport == stream.transport && state.family == stream.family &&
             state.readiness != Readiness::ready;
    });
  }

  /// A host that does not answer its neighbours is sent nothing. No failure: there may be no IPv6 here at all.
  [[nodiscard]] Finding lost_neighbours() const {
    Remedy remedy;
    std::vector<std::string> texts;
    for (const FirewallChain& chain : dropping_input_chains(facts)) {
      if (!chain.filters(Family::ipv6)) continue;
      Remedy one = chain.let_neighbours_in();
      std::ranges::move(one.commands, std::back_inserter(remedy.commands));
      remedy.advice = one.advice;
      remedy.safe = true;
      texts.push_back(chain.name());
    }
    return warning(Group::probe, "input-drop",
                   fmt::format("no client reaches this host by IPv6: its input chains drop neighbour discovery{}{} "
                               "(without IPv6 clients: --ipv4-only)",
                               texts.empty() ? "" : ", by ", fmt::join(texts, " or ")),
                   stream.name(), std::move(remedy));
  }

  [[nodiscard]] std::optional<Finding> judge_way_in() const {
    if (trace.prerouting.empty() || trace.prerouting.front() == 0) {
      if (trace.solicited != 0 && trace.solicited_delivered == 0) return lost_neighbours();
      return skipped(Group::probe, "probe", "the probe's packet did not arrive here at all", stream.name());
    }
    if (const auto lost = lost_behind(trace.prerouting)) {
      const int priority = stations.prerouting[*lost];
      if (priority == kManglePriority && dropped_by_tproxy()) {
        return lose("probe-prerouting", "dropped in prerouting by our own TPROXY: no transparent listener takes it",
                    advise("see the group listener"));
      }
      const auto found = chains("prerouting", priority);
      return lose("probe-prerouting", fmt::format("dropped in prerouting, by {}", names(found, "prerouting", priority)),
                  look_at(found));
    }
    if (trace.marked == 0) {
      return lose("probe-not-intercepted",
                  fmt::format("not intercepted: it left prerouting without the mark{}",
                              trace.forwarded != 0 ? ", and was going to be forwarded" : ""),
                  advise("its rules are not what they were, another table changes the mark, no transparent listener is "
                         "there, or (with "
                         "an iptables) its `limpid run` or `rules watch` hangs or is gone: "
                         "`limpid rules diff` and the group listener tell"));
    }
    if (trace.input.empty() || trace.input.front() == 0) return lost_in_routing();
    if (const auto lost = lost_behind(trace.input)) return lost_in_input(*lost);
    return std::nullopt;
  }

  [[nodiscard]] std::optional<Finding> judge_answer() const {
    if (stream.transport == Transport::udp || outcome.connected) return std::nullopt;
    if (trace.output.empty() || trace.output.front() == 0) {
      return lose("probe-listener",
                  "delivered, but the listener did not answer: its accept queue is full, or its program hangs",
                  Remedy{.paste = {fmt::format("ss -tlnp sport = :{}", judged.ownership.listener.value)}});
    }
    for (const auto& [hook, counts, priorities] :
         {std::tuple{"output", &trace.output, &stations.output},
          std::tuple{"postrouting", &trace.postrouting, &stations.postrouting}}) {
      if (const auto lost = lost_behind(*counts)) {
        const auto found = chains(hook, (*priorities)[*lost]);
        return lose("answer-drop",
                    fmt::format("the listener's answer was dropped by {}", names(found, hook, (*priorities)[*lost])),
                    look_at(found));
      }
    }
    return lose("answer-drop", "the listener's answer left this host's chains, but did not reach the client",
                advise("see where the client's address is routed: `ip route get ADDRESS`"));
  }

  /// Of a `limpid run` of our own, which accepts whatever it does with it then.
  [[nodiscard]] std::optional<Finding> judge_stuck() const {
    if (judged.ownership.keeper == Keeper::permanent || trace.dialled != 0 || trace.astray != 0) return std::nullopt;
    const RunningProcess* relay = judged.processes.empty() ? nullptr : &judged.processes.front();
    const bool stopped = relay != nullptr && relay->stopped;
    if (!stopped && !outcome.waits) return std::nullopt;
    Remedy remedy;
    if (stopped) remedy.commands.push_back({"kill", "-CONT", std::to_string(relay->pid)});
    remedy.commands.push_back({"limpid", "status", "--name", judged.ownership.name});
    remedy.advice = "restart the instance where it does not answer";
    const std::string who =
        relay != nullptr ? fmt::format("the process that relays (pid {})", relay->pid) : "`limpid run`";
    return lose("probe-listener",
                fmt::format("delivered, but {} {}", who,
                            stopped ? "is stopped" : "has not accepted it: it is stuck, or at a limit of its own"),
                std::move(remedy));
  }

  [[nodiscard]] Finding judge_relaying() const {
    if (outcome.echoed) {
      return ok(Group::probe, "probe", "client, rules, listener, target and back: every byte arrived", stream.name());
    }
    if (judged.ownership.keeper == Keeper::permanent || (trace.dialled == 0 && trace.astray == 0)) {
      return ok(Group::probe, "probe",
                "delivered to the listener; the proxy did not relay it to the dialled address, which is its own affair",
                stream.name());
    }
    if (trace.astray != 0) {
      return lose("probe-return",
                  "delivered, but the proxy's own packets to the target were routed elsewhere than the main table says",
                  advise("a policy rule of others takes them: `ip rule`"));
    }
    if (trace.replied != 0 && trace.reply_delivered == 0) {
      return lose(
          "probe-return",
          fmt::format(
              "the target answered, but its answer to {} was not delivered to the proxy here: it is not diverted, or "
              "dropped on its way",
              stream.client.to_string()),
          advise("see rules-missing, src-valid-mark and the firewall's input chains"));
    }
    return lose("probe-return", "the proxy dialled the target, but nothing came back from it",
                advise("see the proxy's own log"));
  }
};

}  // namespace

Finding judge_probe(const Facts& facts, const Judged& judged, const ProbeStream& stream, const ProbeStations& stations,
                    const ProbeTrace& trace, const ProbeOutcome& outcome) {
  const Judge judge{facts, judged, stream, stations, trace, outcome};
  if (outcome.echoed) return judge.judge_relaying();
  if (auto lost = judge.judge_way_in()) return std::move(*lost);
  if (auto lost = judge.judge_answer()) return std::move(*lost);
  if (auto lost = judge.judge_stuck()) return std::move(*lost);
  return judge.judge_relaying();
}

Findings merge_alike(Findings findings) {
  Findings merged;
  for (Finding& finding : findings) {
    const auto alike = std::ranges::find_if(merged, [&](const Finding& other) {
      return other.id == finding.id && other.summary == finding.summary &&
             other.remedy.lines() == finding.remedy.lines();
    });
    if (alike == merged.end()) {
      merged.push_back(std::move(finding));
    } else {
      alike->subject += ", " + finding.subject;
    }
  }
  return merged;
}

}  // namespace limpid::doctor
