// The twin of src/intercept/nft_table.cc and local_traffic.cc: a chain or comment that is changed there is to be changed here.
#include "explain/words.h"

#include <fmt/format.h>

#include <algorithm>

#include "explain/walk.h"

namespace limpid {
namespace {

constexpr std::uint8_t kTcp = 6;

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string_view protocol_name(std::uint8_t protocol) {
  return protocol == kTcp ? "TCP" : "UDP";
}

/// What stands between `key` and the last word of a rule: the prefix in "ip daddr 10.0.0.0/8 accept".
std::string operand(std::string_view rule, std::string_view key) {
  const auto at = rule.find(key);
  if (at == std::string_view::npos) return {};
  std::string_view rest = rule.substr(at + key.size());
  const auto end = std::min(rest.find(" accept"), rest.find(" goto "));
  rest = rest.substr(0, end);
  std::string text;
  for (const char c : rest) {
    if (c != '{' && c != '}' && c != ' ') text += c;
  }
  return text;
}

bool chain_has(const ListedTable& table, const std::string& chain, std::string_view part) {
  const auto found = table.find(chain);
  return found != table.end() &&
         std::ranges::any_of(found->second.rules, [&](const ListedRule& rule) { return has(rule.text, part); });
}

std::string listener_of(const Ownership& ownership, const std::optional<TracedPacket>& packet) {
  const bool ipv6 = packet && packet->destination.family() == Family::ipv6;
  return fmt::format("{}:{}", ipv6 ? "[::1]" : "127.0.0.1", ownership.listener.value);
}

struct Meaning {
  std::string words;
  bool decides = false;
};

Meaning about_destination(const Step& step, const std::optional<TracedPacket>& packet) {
  if (step.comment == "meant for this host") {
    const bool many =
        packet && (packet->destination.address.is_multicast() || packet->destination.address.is_broadcast());
    return {many ? "the destination is multicast or broadcast, which is never intercepted"
                 : "the destination is an address of this host, or broadcast or anycast, which is never intercepted",
            true};
  }
  if (step.verdict == TraceVerdict::accept) {
    if (packet && packet->destination.address.is_link_local()) {
      return {"the destination is link-local, which is never intercepted", true};
    }
    const std::string what = operand(step.rule, "daddr ");
    return {what.empty() || what.front() == '@' ? "the destination is excluded (--exclude)"
                                                : fmt::format("the destination is excluded (--exclude {})", what),
            true};
  }
  if (has(step.rule, "daddr") || has(step.rule, "nfproto")) {
    if (step.target == "clients" || step.target == "programs") return {"the destination is one of --to-net", false};
  }
  return {};
}

Meaning about_client(const Step& step) {
  if (step.verdict != TraceVerdict::go_to) return {};
  if (has(step.rule, "iifname")) return {"it arrived at an interface of --from", false};
  if (has(step.rule, "saddr")) return {fmt::format("the client is in --from {}", operand(step.rule, "saddr ")), false};
  return {"any client is in scope", false};
}

Meaning about_program(const Step& step) {
  if (step.verdict == TraceVerdict::accept) {
    return {fmt::format("the program is excluded ({})", step.rule.substr(0, step.rule.rfind(" accept"))), true};
  }
  if (has(step.rule, "skuid 0-4294967295") || step.rule.starts_with("meta l4proto")) {
    return {"every program is in scope", false};
  }
  return {fmt::format("the program is in scope ({})", step.rule.substr(0, step.rule.rfind(" goto "))), false};
}

Meaning about_capture(const Step& step, const Ownership& ownership, const std::optional<TracedPacket>& packet) {
  if (has(step.rule, "tproxy")) {
    return {fmt::format("handed to the listener {} (tproxy)", listener_of(ownership, packet)), true};
  }
  if (step.comment == "draining") return {"the instance is draining: fail-closed rejects what is new", true};
  if (has(step.rule, "reject")) {
    return {fmt::format("no transparent listener on {}: fail-closed rejects", listener_of(ownership, packet)), true};
  }
  return {};
}

Meaning about_selection(const Step& step, const ListedTable& table, const std::optional<TracedPacket>& packet) {
  if (step.verdict == TraceVerdict::jump && step.target.starts_with("divert")) {
    return {"a transparent socket of this host has it", false};
  }
  if (step.comment.starts_with("our own sockets")) {
    const bool others = has(step.comment, "marked by others");
    return {others ? "it carries a mark: the proxy's own traffic, or somebody else has decided about it"
                   : "it carries the bypass mark: the proxy's own traffic",
            true};
  }
  if (step.comment == "what programs here send") return {"a program of this host sent it, and it is in scope", false};
  if (step.comment == "connections that we do not know are forwarded") {
    return {"it is not a first packet, and belongs to no flow that is intercepted: forwarded", true};
  }
  if (step.comment == "answers of servers here") return {"it answers a client of a server on this host", true};
  if (step.comment.starts_with("older connections")) {
    return {"it is not a first packet, and belongs to no flow that is intercepted: left alone", true};
  }
  if (has(step.rule, "nfproto") && step.verdict == TraceVerdict::accept) {
    const bool ipv6 = packet && packet->destination.family() == Family::ipv6;
    return {ipv6 ? "IPv6 is not in scope" : "IPv4 is not in scope", true};
  }
  if (has(step.rule, "@flows_")) return {"it belongs to a flow of a program here that is intercepted already", false};
  if (has(step.rule, "dport") && packet) {
    return {fmt::format("the port is in scope ({})", ports_in_scope(table, packet->protocol)), false};
  }
  return {};
}

/// Why a packet came to the end of a base chain that selects.
Meaning about_end(const Step& step, const std::string& gone_to, const ListedTable& table, const Ownership& ownership,
                  const std::optional<TracedPacket>& packet) {
  const bool selects = step.chain == "prerouting" || step.chain == "datagrams" || step.chain == "local_output";
  if (!selects || !packet) return {};
  // Its datagrams are selected elsewhere, before.
  if (step.chain == "prerouting" && packet->protocol != kTcp && table.contains("datagrams")) return {};
  if (gone_to == "intercept") {
    if (!chain_has(table, "intercept", "tproxy")) {
      return {"the instance is draining: nothing new is intercepted", true};
    }
    return {fmt::format("no transparent listener on {}: fail-open leaves it alone", listener_of(ownership, packet)),
            true};
  }
  // Without --to-net, these chains go on to the next in any case.
  if (gone_to == "local_scope" || (gone_to == "scope" && chain_has(table, "scope", "goto clients"))) {
    return {"the destination is none of --to-net", true};
  }
  if (gone_to == "scope" || gone_to == "clients") return {"the client is none of --from", true};
  if (gone_to == "programs") return {"the program is none of --uid, --gid, --cgroup", true};
  if (gone_to == "local_first") return {"more connections than can be remembered", true};
  if (!gone_to.empty()) return {};
  if (step.chain == "prerouting" && !table.contains("scope")) {
    return {"forwarded traffic is not in scope (--local-only)", true};
  }
  const std::string ports = ports_in_scope(table, packet->protocol);
  if (ports.empty()) return {fmt::format("{} is not in scope", protocol_name(packet->protocol)), true};
  return {fmt::format("the port is not in scope ({})", ports), true};
}

Meaning about_rule(const Step& step, const ListedTable& table, const Ownership& ownership,
                   const std::optional<TracedPacket>& packet) {
  const std::string& chain = step.chain;
  if (chain == "divert" || chain == "divert_datagrams") {
    if (step.verdict != TraceVerdict::accept) return {"the socket is a listener on any address, not a flow", false};
    return {"it belongs to a flow that is intercepted already: delivered to its socket (divert)", true};
  }
  if (chain == "prerouting" || chain == "datagrams" || chain == "local_output") {
    return about_selection(step, table, packet);
  }
  if (chain == "translated") return {"an answer to the proxy's own datagrams, behind NAT", false};
  if (chain == "scope" || chain == "local_scope") {
    if (step.target == "intercept") return about_client(step);
    if (has(step.rule, "delete @flows")) return {};
    return about_destination(step, packet);
  }
  if (chain == "clients") return about_client(step);
  if (chain == "programs") return about_program(step);
  if (chain == "local_first")
    return {has(step.rule, "@flows_") ? "remembered as a flow that is intercepted" : "", false};
  if (chain == "local_mark") return {"marked, and so routed again: to this host, through lo", true};
  if (chain == "listener") return {"it was dialled to the proxy's own port, which would dial itself: reset", true};
  if (chain == "local_leak") return {"in scope, but its socket is bound to an interface: fail-closed drops it", true};
  if (chain == "intercept") return about_capture(step, ownership, packet);
  if (chain == "onward") {
    return {fmt::format("no transparent listener on {}: fail-open sends a copy on, with the bypass mark",
                        listener_of(ownership, packet)),
            true};
  }
  if (chain == "output" && has(step.rule, "notrack"))
    return {"both legs of a flow have one 5-tuple: kept out of conntrack", false};
  return {};
}

}  // namespace

std::string ports_in_scope(const ListedTable& table, std::uint8_t protocol) {
  const std::string_view key = protocol == kTcp ? "tcp dport " : "udp dport ";
  std::string ports;
  for (const char* name : {"prerouting", "datagrams", "local_output"}) {
    const auto chain = table.find(name);
    if (chain == table.end()) continue;
    for (const ListedRule& rule : chain->second.rules) {
      if (!rule.text.starts_with(key) || !has(rule.text, " goto ")) continue;
      ports += (ports.empty() ? "" : ",") + operand(rule.text, key);
    }
    if (!ports.empty()) return fmt::format("{} {}", protocol_name(protocol), ports);
  }
  return {};
}

void Words::begin_packet() {
  gone_to_.clear();
}

void Words::explain(Step& step, const ListedTable& table, const Ownership& ownership,
                    const std::optional<TracedPacket>& packet) {
  std::string& gone_to = gone_to_[step.table];
  Meaning meaning;
  if (step.kind == TraceKind::rule) {
    meaning = about_rule(step, table, ownership, packet);
    if (step.verdict == TraceVerdict::go_to) gone_to = step.target;
    if (step.verdict == TraceVerdict::accept || step.verdict == TraceVerdict::drop) gone_to.clear();
  } else if (step.kind == TraceKind::policy) {
    meaning = about_end(step, gone_to, table, ownership, packet);
    gone_to.clear();
  }
  if (captured_by_.contains(ownership.name)) return;
  if (meaning.decides && step.verdict == TraceVerdict::accept &&
      (step.chain.starts_with("divert") || has(step.rule, "tproxy"))) {
    captured_by_.insert(ownership.name);
  }
  if (step.chain == "onward") captured_by_.insert(ownership.name);  // its copy passes all chains again
  step.words = std::move(meaning.words);
  step.decides = meaning.decides;
}

}  // namespace limpid
