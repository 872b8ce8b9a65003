// The twin of src/intercept/xtables_rules.cc: a chain or rule that is changed there is to be changed here.
#include "explain/xtables_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "explain/walk.h"

namespace limpid {
namespace {

constexpr std::uint8_t kTcp = 6;
constexpr std::string_view kInterceptedAlready =
    "it belongs to a flow that is intercepted already: delivered to its socket";

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string word_after(std::string_view rule, std::string_view flag) {
  const auto at = rule.find(flag);
  if (at == std::string_view::npos) return {};
  rule.remove_prefix(at + flag.size());
  return std::string(rule.substr(0, rule.find(' ')));
}

std::string_view suffix_of(std::string_view chain) {
  return chain.substr(chain.rfind('-') + 1);
}

struct Meaning {
  std::string words;
  bool decides = false;
};

struct Context {
  const RuleBook& rules;
  const Ownership& owner;
  const std::optional<TracedPacket>& packet;
  [[nodiscard]] std::string listener() const {
    const bool ipv6 = packet && packet->destination.family() == Family::ipv6;
    return fmt::format("{}:{}", ipv6 ? "[::1]" : "127.0.0.1", owner.listener.value);
  }
  [[nodiscard]] const ListedChain* chain(const TableKey& table, std::string_view suffix) const {
    return rules.find(table, xtables_chain(owner.name, suffix));
  }
};

bool chain_has(const ListedChain* chain, std::string_view part) {
  return chain != nullptr && std::ranges::any_of(chain->rules, [&](const ListedRule& r) { return has(r.text, part); });
}

Meaning about_destination(const Step& step, const Context& context) {
  const auto& packet = context.packet;
  if (has(step.rule, "--dst-type") || has(step.rule, "-d ff00::/8")) {
    const bool many =
        packet && (packet->destination.address.is_multicast() || packet->destination.address.is_broadcast());
    return {many ? "the destination is multicast or broadcast, which is never intercepted"
                 : "the destination is an address of this host, or broadcast or anycast, which is never intercepted",
            true};
  }
  const std::string prefix = word_after(step.rule, "-d ");
  if (step.verdict == TraceVerdict::leave) {
    if (packet && packet->destination.address.is_link_local())
      return {"the destination is link-local, which is never intercepted", true};
    return {prefix.empty() ? "the destination is excluded (--exclude)"
                           : fmt::format("the destination is excluded (--exclude {})", prefix),
            true};
  }
  if (step.verdict != TraceVerdict::go_to) return {};
  if (!prefix.empty()) return {fmt::format("the destination is in --to-net {}", prefix), false};
  const auto target = suffix_of(step.target);
  if (target == "tpx" || target == "can") return {"any client is in scope", false};
  return {};
}

Meaning about_client(const Step& step) {
  if (step.verdict != TraceVerdict::go_to) return {};
  if (has(step.rule, "-i ")) return {"it arrived at an interface of --from", false};
  const std::string prefix = word_after(step.rule, "-s ");
  if (!prefix.empty()) return {fmt::format("the client is in --from {}", prefix), false};
  return {"any client is in scope", false};
}

Meaning about_program(const Step& step) {
  if (step.verdict == TraceVerdict::leave)
    return {fmt::format("the program is excluded ({})", step.rule.substr(0, step.rule.rfind(" -j "))), true};
  if (step.verdict != TraceVerdict::go_to) return {};
  if (!has(step.rule, "-m owner --uid") && !has(step.rule, "-m owner --gid") && !has(step.rule, "-m cgroup"))
    return {"every program is in scope", false};
  return {fmt::format("the program is in scope ({})", step.rule.substr(0, step.rule.rfind(" -g "))), false};
}

Meaning about_capture(const Step& step, const Context& context) {
  const std::string listener = context.listener();
  if (has(step.rule, "-j TPROXY")) {
    if (step.verdict == TraceVerdict::drop)
      return {fmt::format("TPROXY drops it: no transparent listener on {}, though the heartbeat is not too old yet",
                          listener),
              true};
    return {fmt::format("handed to the listener {} (TPROXY)", listener), true};
  }
  if (has(step.rule, "-m recent !")) {
    if (step.verdict == TraceVerdict::leave)
      return {fmt::format("no heartbeat (no transparent listener on {}, or its `limpid run` or `rules watch` is gone): "
                          "fail-open leaves it alone",
                          listener),
              true};
    return {fmt::format("no heartbeat (no transparent listener on {}, or its `limpid run` or `rules watch` is gone): "
                        "fail-closed rejects",
                        listener),
            step.verdict == TraceVerdict::accept};
  }
  if (step.verdict == TraceVerdict::accept) {
    return {suffix_of(step.chain) == "dead" ? fmt::format("no heartbeat (no transparent listener on {}, or its `limpid "
                                                          "run` or `rules watch` is gone): fail-closed rejects",
                                                          listener)
                                            : "the instance is draining: fail-closed rejects what is new",
            true};
  }
  if (suffix_of(step.chain) == "can") return {"in scope, and decided before connection tracking", false};
  return {};
}

/// pre and out, in raw and mangle.
Meaning about_selection(const Step& step, const Context& context) {
  const auto target = step.verdict == TraceVerdict::go_to ? suffix_of(step.target) : std::string_view{};
  if (target == "div" || target == "rdv" || target == "ans") return {"a transparent socket of this host has it", false};
  if (target == "lo") return {"a program of this host sent it, and it is in scope", false};
  if (target == "tpx") return {"found in scope before connection tracking (table raw)", false};
  if (target == "mrk") return {"it belongs to a flow of a program here that is intercepted already", false};
  if (has(step.rule, "-j CT")) return {"both legs of a flow have one 5-tuple: kept out of conntrack", false};
  if (step.verdict == TraceVerdict::accept) return {std::string(kInterceptedAlready), true};
  if (has(step.rule, "-m recent !")) return about_capture(step, context);
  if (step.verdict == TraceVerdict::leave) {
    if (has(step.rule, "--tcp-flags")) {
      return {fmt::format("it is not a first packet, and belongs to no flow that is intercepted: {}",
                          suffix_of(step.chain) == "pre" ? "forwarded" : "left alone"),
              true};
    }
    if (has(step.rule, "--ctdir REPLY")) return {"it answers a client of a server on this host", true};
    if (has(step.rule, "! --mark"))
      return {"it carries a mark: the proxy's own traffic, or somebody else has decided about it", true};
    if (has(step.rule, "-m mark")) return {"it carries the bypass mark: the proxy's own traffic", true};
  }
  if (has(step.rule, "--dport") && context.packet) {
    const ListedChain* chain = context.rules.find(step.table, step.chain);
    if (chain != nullptr)
      return {fmt::format("the port is in scope ({})", xtables_ports(*chain, context.packet->protocol)), false};
  }
  return {};
}

/// No rule of pre or out took it.
Meaning about_ports(const TableKey& table, const std::string& name, const Context& context) {
  const ListedChain* chain = context.rules.find(table, name);
  if (chain == nullptr || !context.packet) return {};
  const std::uint8_t protocol = context.packet->protocol;
  if (const std::string ports = xtables_ports(*chain, protocol); !ports.empty())
    return {fmt::format("the port is not in scope ({})", ports), true};
  if (table.name != "mangle") return {};  // mangle has the last word
  if (suffix_of(name) == "pre") {
    const ListedChain* early = context.chain({.family = table.family, .name = "raw"}, "pre");
    if (early != nullptr && !xtables_ports(*early, protocol).empty()) return {};  // said there
    if (!chain_has(chain, "--dport") && !chain_has(early, "--dport"))
      return {"forwarded traffic is not in scope (--local-only)", true};
  }
  return {fmt::format("{} is not in scope", protocol == kTcp ? "TCP" : "UDP"), true};
}

Meaning about_end(const TableKey& table, const std::string& name, const Context& context) {
  const auto suffix = suffix_of(name);
  const ListedChain* chain = context.rules.find(table, name);
  if (suffix == "pre" || (suffix == "out" && table.name == "mangle")) return about_ports(table, name, context);
  if (suffix == "tpx" && !chain_has(chain, "TPROXY"))
    return {"the instance is draining: nothing new is intercepted", true};
  const bool is_emptied = chain != nullptr && chain->rules.empty();
  if ((suffix == "lsc" || suffix == "can") && is_emptied)
    return {"the instance is draining: nothing new is intercepted", true};
  if (suffix == "dst" || (suffix == "lsc" && chain_has(chain, "-g ")))
    return {"the destination is none of --to-net", true};
  if (suffix == "src") return {"the client is none of --from", true};
  if (suffix == "prg") return {"the program is none of --uid, --gid, --cgroup", true};
  return {};
}

Meaning about_rule(const Step& step, const Context& context) {
  const auto suffix = suffix_of(step.chain);
  if (suffix == "pre" || suffix == "out") return about_selection(step, context);
  if (suffix == "dst" || suffix == "lsc") return about_destination(step, context);
  if (suffix == "src") return about_client(step);
  if (suffix == "prg") return about_program(step);
  if (suffix == "tpx" || suffix == "dead" || suffix == "lo" || suffix == "can") return about_capture(step, context);
  if (suffix == "div" && step.verdict == TraceVerdict::accept) return {std::string(kInterceptedAlready), true};
  if ((suffix == "rdv" || suffix == "ans") && has(step.rule, "-j MARK"))
    return {"it belongs to a flow that is intercepted already", false};
  if (suffix == "mrk") return {"marked, and so routed again: to this host, through lo", true};
  if (suffix == "kep") {
    if (has(step.rule, "UNTRACKED")) {
      return {fmt::format("connection tracking does not see it, so it cannot be remembered: fail-{}",
                          step.verdict == TraceVerdict::drop ? "closed drops it" : "open leaves it alone"),
              true};
    }
    if (has(step.rule, "CONNMARK")) return {"remembered as a flow that is intercepted", false};
  }
  if (suffix == "lek") return {"in scope, but its socket is bound to an interface: fail-closed drops it", true};
  if (suffix == "grd") return {"it was dialled to the proxy's own port, which would dial itself: reset", true};
  return {};
}

}  // namespace

bool is_iptables_table(const TableKey& table) {
  constexpr std::array<std::string_view, 5> kNames = {"filter", "nat", "mangle", "raw", "security"};
  return (table.family == "ip" || table.family == "ip6") && std::ranges::find(kNames, table.name) != kNames.end();
}

std::string xtables_ports(const ListedChain& chain, std::uint8_t protocol) {
  const std::string_view key = protocol == kTcp ? "-p tcp " : "-p udp ";
  std::string ports;
  for (const ListedRule& rule : chain.rules) {
    if (!rule.text.starts_with(key) || !has(rule.text, " -g ")) continue;
    std::string some = word_after(rule.text, "--dports ");
    if (some.empty()) some = word_after(rule.text, "--dport ");
    if (some.empty()) continue;
    std::ranges::replace(some, ':', '-');
    ports += (ports.empty() ? "" : ",") + some;
  }
  return ports.empty() ? ports : fmt::format("{} {}", protocol == kTcp ? "TCP" : "UDP", ports);
}

void XtablesWords::explain(Step& step, const RuleBook& rules, const Ownership& owner,
                           const std::optional<TracedPacket>& packet) {
  if (step.verdict == TraceVerdict::go_to || step.verdict == TraceVerdict::jump) {
    within_[step.table] = step.target;
  } else if (step.verdict == TraceVerdict::go_on && step.kind == TraceKind::rule) {
    within_[step.table] = step.chain;
  } else {
    within_.erase(step.table);
  }
  if (captured_by_.contains(owner.name)) return;
  const Context context{.rules = rules, .owner = owner, .packet = packet};
  Meaning meaning = step.kind == TraceKind::fell_out && step.verdict != TraceVerdict::leave
                        ? about_end(step.table, step.chain, context)
                        : about_rule(step, context);
  if (suffix_of(step.chain) == "rej" && step.table.name == "filter") {
    const auto why = closed_.find(owner.name);
    meaning = {why == closed_.end() ? "it carries the mark of what fail-closed rejects" : why->second, true};
  }
  if (meaning.decides && step.verdict == TraceVerdict::accept) {
    if (has(meaning.words, "fail-closed rejects")) {
      closed_[owner.name] = meaning.words;
    } else {
      captured_by_.insert(owner.name);
    }
  }
  step.words = std::move(meaning.words);
  step.decides = meaning.decides;
}

std::optional<Step> XtablesWords::end_before(const Step& next, const RuleBook& rules,
                                             const std::map<std::string, Ownership>& instances,
                                             const std::optional<TracedPacket>& packet) {
  const auto found = within_.find(next.table);
  if (found == within_.end()) return {};
  const auto now = instance_of_chain(next.chain);
  const auto before = instance_of_chain(found->second);
  if (now && now == before) return {};
  const std::string chain = found->second;
  within_.erase(found);
  const auto owner = before ? instances.find(*before) : instances.end();
  if (owner == instances.end()) return {};
  Step step = next;
  step.chain = chain;
  step.kind = TraceKind::fell_out;
  step.verdict = TraceVerdict::go_on;
  step.handle = 0;
  step.rule.clear();
  step.comment.clear();
  step.target.clear();
  step.instance = *before;
  explain(step, rules, owner->second, packet);
  if (step.words.empty()) return {};
  return step;
}

}  // namespace limpid
