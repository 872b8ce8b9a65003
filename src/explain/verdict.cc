// Draws the conclusion from a walk: Limpid's own decisions first, then those of others, then the routing.
#include "explain/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

namespace limpid {
namespace {

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// The first step for which `matches` holds.
template <class Matches>
const Step* find_first(const Walk& walk, Matches matches) {
  const auto found = std::ranges::find_if(walk.steps, matches);
  return found == walk.steps.end() ? nullptr : &*found;
}

/// A rule of Limpid's in iptables' tables has no words of its own here, but its chain tells whose it is: "limpid-…", "limpid_NAME-…".
bool has_our_chain(const Step& step) {
  return step.chain.starts_with("limpid-") || step.chain.starts_with("limpid_");
}

bool captures(const Step& step) {
  return step.kind == TraceKind::rule && step.verdict == TraceVerdict::accept &&
         (has(step.rule, "tproxy") || has(step.rule, "TPROXY") || step.chain.starts_with("divert") ||
          (has_our_chain(step) && (step.chain.ends_with("-div") || step.chain.ends_with("-pre"))));
}

/// An instance whose rules no trace shows, and that could not be asked.
const Ownership* legacy_instance(const Walk& walk, const Surroundings& surroundings) {
  for (const auto& [name, owner] : surroundings.instances) {
    if (owner.backend == Backend::iptables_legacy) return &owner;
    const bool concerned = !walk.arrived_at.empty() || owner.local;
    if (owner.backend == Backend::ebpf && concerned && !surroundings.ebpf_answers.contains(name)) return &owner;
  }
  return nullptr;
}

/// The one whose mark the packet has.
const Ownership* legacy_capturer(const Walk& walk, const Surroundings& surroundings) {
  for (const auto& [name, owner] : surroundings.instances) {
    const bool unseen = owner.backend == Backend::iptables_legacy || owner.backend == Backend::ebpf;
    if (unseen && (walk.mark & owner.mark.mask) == owner.mark.intercept) return &owner;
  }
  return nullptr;
}

/// What Limpid's instances decided, each instance's last word: "the port is not in scope (TCP 80)".
std::string decisions(const Walk& walk, const Surroundings& surroundings) {
  std::map<std::string, std::string> latest;
  for (const Step& step : walk.steps) {
    if (!step.instance.empty() && step.decides) latest[step.instance] = step.words;
  }
  for (const auto& [name, answer] : surroundings.ebpf_answers) latest[name] = answer.words;
  if (walk.first) {
    const Family family = walk.first->destination.family();
    for (const auto& [name, owner] : surroundings.instances) {
      if (!latest.contains(name) && surroundings.without_rules.contains({name, family}))
        latest[name] =
            fmt::format("{} is not in scope (--{}-only)", to_string(family), family == Family::ipv6 ? "ipv4" : "ipv6");
    }
  }
  std::string text;
  for (const auto& [instance, words] : latest) {
    if (!text.empty()) text += "; ";
    if (surroundings.instances.size() > 1) text += fmt::format("instance {}: ", instance);
    text += words;
  }
  if (!text.empty()) return text;
  if (surroundings.instances.empty()) return "nothing of Limpid's is installed here";
  if (const Ownership* owner = legacy_instance(walk, surroundings)) {
    const bool ipv6 = walk.first && walk.first->destination.family() == Family::ipv6;
    return fmt::format("the rules of instance {} left it alone, for a reason that cannot be seen: {}", owner->name,
                       legacy_note(*owner, ipv6 ? Family::ipv6 : Family::ipv4));
  }
  return walk.arrived_at.empty() ? "this host's own traffic is not in scope (no --local)"
                                 : "no rule of Limpid's was met";
}

Verdict judge_delivered(const Walk& walk, const Surroundings& surroundings) {
  const Step* ours = find_first(walk, [](const Step& step) { return !step.instance.empty() && captures(step); });
  if (ours != nullptr) {
    const auto found = surroundings.instances.find(ours->instance);
    std::optional<Port> listener;
    if (found != surroundings.instances.end()) listener = found->second.listener;
    return {.outcome = Outcome::intercepted, .reason = ours->words, .instance = ours->instance, .listener = listener};
  }
  const auto plain = [](Outcome outcome, std::string reason) {
    return Verdict{.outcome = outcome, .reason = std::move(reason), .instance = {}, .listener = {}};
  };
  if (const Step* theirs = find_first(walk, captures)) {
    return plain(
        Outcome::intercepted,
        fmt::format("{}: {}", has_our_chain(*theirs) ? "by a rule of Limpid's" : "by a rule that is not Limpid's",
                    name_of_rule(*theirs)));
  }
  if (walk.first && walk.last && walk.first->destination != walk.last->destination) {
    return plain(Outcome::intercepted, fmt::format("by NAT, not by Limpid: redirected to {} on this host",
                                                   walk.last->destination.to_string()));
  }
  const bool one =
      walk.first && !walk.first->destination.address.is_multicast() && !walk.first->destination.address.is_broadcast();
  const Step* left_alone = find_first(walk, [](const Step& step) { return step.comment == "meant for this host"; });
  if (walk.to_this_host || left_alone != nullptr || !one) {
    std::string reason = one ? "the destination is an address of this host's own"
                             : "the destination is multicast or broadcast, and this host takes it";
    if (!walk.has_socket && one) reason += ", where no socket waits for it";
    return plain(Outcome::bypassed, std::move(reason));
  }
  if (const Ownership* owner = legacy_capturer(walk, surroundings)) {
    if (const auto answer = surroundings.ebpf_answers.find(owner->name);
        answer != surroundings.ebpf_answers.end() && answer->second.captures()) {
      return {.outcome = Outcome::intercepted,
              .reason = answer->second.words,
              .instance = owner->name,
              .listener = owner->listener};
    }
    return {.outcome = Outcome::intercepted,
            .reason = fmt::format("it carries the mark of what the instance's {} intercept, and is routed "
                                  "to this host: for the listener on port {}",
                                  owner->backend == Backend::ebpf ? "eBPF programs" : "rules in iptables-legacy",
                                  owner->listener.value),
            .instance = owner->name,
            .listener = owner->listener};
  }
  return plain(Outcome::intercepted, "by policy routing that is not Limpid's: it is routed to this host");
}

}  // namespace

std::string_view to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::intercepted: return "intercepted";
    case Outcome::bypassed: return "bypassed";
    case Outcome::dropped: return "dropped";
    case Outcome::rejected: return "rejected";
    case Outcome::unknown: return "unknown";
  }
  return "";
}

std::string legacy_note(const Ownership& owner, Family family) {
  if (owner.backend == Backend::ebpf) {
    return fmt::format("instance {} is installed by eBPF, whose programs no trace shows (`limpid explain` asks them)",
                       owner.name);
  }
  return fmt::format(
      "instance {} is installed by iptables-legacy, whose rules no trace shows (`{}tables-legacy -t mangle -nvL {}`)",
      owner.name, family == Family::ipv6 ? "ip6" : "ip", xtables_chain(owner.name, "pre"));
}

std::string name_of_rule(const Step& step) {
  const std::string where = fmt::format("{} {} {}", step.table.family, step.table.name, step.chain);
  if (step.kind == TraceKind::policy) return fmt::format("{}: policy {}", where, to_string(step.verdict));
  if (step.kind == TraceKind::fell_out && step.handle == 0) return fmt::format("{}: end of chain", where);
  if (step.rule.empty()) return fmt::format("{}: rule handle {}", where, step.handle);
  return fmt::format("{}: {}", where, step.rule);
}

std::optional<Verdict> judge_programs(const Surroundings& surroundings) {
  for (const auto& [name, answer] : surroundings.ebpf_answers) {
    const auto owner = surroundings.instances.find(name);
    Verdict verdict{.outcome = Outcome::intercepted, .reason = answer.words, .instance = name, .listener = {}};
    if (owner != surroundings.instances.end()) verdict.listener = owner->second.listener;
    if (answer.captures()) return verdict;
    verdict.listener = {};
    verdict.outcome = answer.drops() ? Outcome::dropped : Outcome::rejected;
    if (answer.drops() || answer.rejects()) return verdict;
  }
  return std::nullopt;
}

Verdict judge(const Walk& walk, const Surroundings& surroundings, const Evidence& evidence) {
  const auto plain = [](Outcome outcome, std::string reason) {
    return Verdict{.outcome = outcome, .reason = std::move(reason), .instance = {}, .listener = {}};
  };
  const Step last = walk.end_step ? walk.steps[*walk.end_step] : Step{};
  switch (walk.end) {
    case End::delivered: return judge_delivered(walk, surroundings);
    case End::left:
      return plain(Outcome::bypassed, fmt::format("{}; it leaves by {}", decisions(walk, surroundings), walk.left_by));
    case End::dropped:
    case End::rejected: {
      const Outcome outcome = walk.end == End::dropped ? Outcome::dropped : Outcome::rejected;
      Verdict verdict = plain(outcome, fmt::format("by {}", name_of_rule(last)));
      if (!last.words.empty()) verdict.reason = last.words;
      verdict.instance = last.instance;
      return verdict;
    }
    case End::queued: return plain(Outcome::unknown, "given to a program by " + name_of_rule(last));
    case End::stolen: return plain(Outcome::unknown, "taken by " + name_of_rule(last));
    case End::vanished:
      if (const Ownership* owner = legacy_instance(walk, surroundings);
          owner != nullptr && walk.answered && (!evidence.route || evidence.route->kind != RouteKind::refused)) {
        return {
            .outcome = Outcome::rejected,
            .reason = owner->backend == Backend::ebpf
                          ? fmt::format("by what no trace shows, probably fail-closed of instance {} because no "
                                        "transparent listener is on port {}",
                                        owner->name, owner->listener.value)
                          : fmt::format("by a rule that no trace shows, probably fail-closed of instance {} because no "
                                        "transparent listener is on "
                                        "port {}: see `iptables-legacy -nvL {}` (IPv6: ip6tables-legacy)",
                                        owner->name, owner->listener.value, xtables_chain(owner->name, "rej")),
            .instance = {},
            .listener = {}};
      }
      return plain(Outcome::dropped, explain_loss(walk, evidence));
  }
  return {};
}

}  // namespace limpid
