// Each bypass rule is cut into boxes; each box is cut to the scope, for each transport. What then spans the scope in all facts but one is said by that fact alone.
#include "service/bypass.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "policy/box_order.h"
#include "policy/rule_boxes.h"

namespace limpid {
namespace {

/// A rule of nftables' sets, or an entry of eBPF's trie, is cheap; each of iptables' is asked for every packet.
constexpr std::size_t kMostInSets = 60'000;
constexpr std::size_t kMostInChains = 1'000;

RangeSet ipv4_addresses() {
  const std::array all{Prefix::everything(Family::ipv4)};
  return RangeSet(std::span<const Prefix>(all));
}

/// The one that is known last.
std::string_view what(FactSet facts) noexcept {
  if (facts.has(Fact::first_bytes)) return "the first bytes";
  if (facts.has(Fact::process)) return "the process that has the socket";
  if (facts.has(Fact::cgroup)) return "the cgroup of the socket";
  if (facts.has(Fact::user)) return "the user of the socket";
  return facts.has(Fact::hardware) ? "the MAC address" : "the interface or the DSCP that packets come with";
}

PortSet to_port_set(const RangeSet& ports) {
  PortSet set;
  for (const WideRange& range : ports.ranges()) {
    set.insert(
        {.first = Port{static_cast<std::uint16_t>(range.first)}, .last = Port{static_cast<std::uint16_t>(range.last)}});
  }
  return set;
}

/// Those ranges of a set that have something in common with another.
RangeSet ranges_meeting(const RangeSet& set, const RangeSet& other) {
  std::vector<WideRange> touched;
  for (const WideRange& range : other.ranges()) {
    auto at = std::ranges::partition_point(set.ranges(), [&](const WideRange& one) { return one.last < range.first; });
    for (; at != set.ranges().end() && at->first <= range.last; ++at) touched.push_back(*at);
  }
  return RangeSet(std::move(touched));
}

/// The scope is kept as sets while the rules are read, so that each rule costs what it takes out and not what is left.
class Compiler {
 public:
  Compiler(const std::vector<Rule>& rules, Scope& scope, std::size_t most_networks)
      : rules_(rules), scope_(scope), most_networks_(most_networks), earlier_(kMostComparisons) {
    if (can_choose_clients() && !scope.from_prefixes.empty()) left_.source = RangeSet(scope.from_prefixes);
    if (!scope.to_prefixes.empty()) left_.destination = RangeSet(scope.to_prefixes);
    if (!scope.ipv6 || !scope.ipv4) {
      const RangeSet family = scope.ipv4 ? ipv4_addresses() : ipv4_addresses().complement(~Wide{0});
      left_.source = left_.source.intersected(family);
      left_.destination = left_.destination.intersected(family);
    }
    left_.destination = left_.destination.intersected(RangeSet(scope.excluded).complement(~Wide{0}));
    if (can_choose_clients()) client_networks_ = to_prefixes(left_.source).size();
  }

  std::vector<RelayedBypass> run() {
    std::vector<RelayedBypass> relayed;
    for (std::size_t number = 0; number < rules_.size(); ++number) {
      auto boxes = boxes_of(rules_[number].condition);
      if (rules_[number].action != FlowAction::bypass) {
        note_earlier(number, std::move(boxes));
        continue;
      }
      std::string cause = boxes ? std::string() : "its condition is too long to be compared with others";
      for (const RuleBox& box : boxes.value_or(std::vector<RuleBox>())) {
        if (auto why = compile(box); !why.empty() && cause.empty()) cause = std::move(why);
      }
      if (!cause.empty()) relayed.push_back({.rule = number, .cause = std::move(cause)});
    }
    if (clients_changed_) {
      scope_.from_prefixes = to_prefixes(left_.source);
      if (scope_.from_prefixes.empty()) scope_.tcp = scope_.udp = {};  // no network would mean all
    }
    return relayed;
  }

 private:
  struct Part {
    Transport transport;
    RangeSet ports;  ///< of the scope
    RuleBox wanted;
  };

  void note_earlier(std::size_t number, std::optional<std::vector<RuleBox>> boxes) {
    if (!boxes) {
      if (!first_unknown_) first_unknown_ = number;
      return;
    }
    for (RuleBox& box : *boxes) earlier_.add(std::move(box), number);
  }

  [[nodiscard]] PortSet& ports_of(Transport transport) { return transport == Transport::tcp ? scope_.tcp : scope_.udp; }

  /// Interfaces are another way into the scope, and what programs of this host send comes by none.
  [[nodiscard]] bool can_choose_clients() const {
    return scope_.forwarded && !scope_.local && scope_.from_interfaces.empty();
  }

  /// What a box has of the scope, but for the ports, which each transport has for itself.
  [[nodiscard]] RuleBox cut(const RuleBox& box) const {
    RuleBox wanted = box;
    wanted.source = box.source.intersected(left_.source);
    wanted.destination = box.destination.intersected(left_.destination);
    wanted.source_ports = box.source_ports.intersected(left_.source_ports);
    return wanted;
  }

  /// Why it cannot be said; empty: it is.
  std::string compile(const RuleBox& box) {
    const RuleBox within = cut(box);
    std::vector<Part> parts;
    bool spans_transports = true;
    for (const Transport transport : {Transport::tcp, Transport::udp}) {
      RangeSet ports(ports_of(transport));
      if (ports.empty() || left_.empty()) continue;
      RuleBox wanted = within;
      wanted.tcp = box.tcp && transport == Transport::tcp;
      wanted.udp = box.udp && transport == Transport::udp;
      wanted.destination_ports = box.destination_ports.intersected(ports);
      if (wanted.empty()) {
        spans_transports = false;
        continue;
      }
      parts.push_back({.transport = transport, .ports = std::move(ports), .wanted = std::move(wanted)});
    }
    if (parts.empty()) return {};  // out of scope: left alone in any case
    if (!box.depends_on.empty()) return fmt::format("it depends on {}", what(box.depends_on));
    if (!box.minutes.covers(RangeSet::up_to(10079))) return "it depends on the time";
    for (const Part& part : parts) {
      if (auto why = decided_before(part.wanted); !why.empty()) return why;
    }
    if (!within.source_ports.covers(left_.source_ports)) return "the kernel is not told about the ports of clients";
    const bool clients = within.source.covers(left_.source);
    const bool destinations = within.destination.covers(left_.destination);
    const bool ports =
        std::ranges::all_of(parts, [](const Part& part) { return part.wanted.destination_ports.covers(part.ports); });
    if (clients && destinations) {
      for (const Part& part : parts) leave_ports(part.transport, part.wanted.destination_ports);
      return {};
    }
    if (!ports || !spans_transports || (!clients && !destinations))
      return "the kernel can be told destinations, ports or clients, but not several of these together";
    return clients ? leave_destinations(within.destination) : leave_clients(within.source);
  }

  /// Why a rule before it stands in its way; empty: none does.
  [[nodiscard]] std::string decided_before(const RuleBox& wanted) {
    const auto meeting = earlier_.first_meeting(wanted);
    const auto first = meeting && first_unknown_ ? std::min(*meeting, *first_unknown_)
                       : meeting                 ? *meeting
                                                 : first_unknown_.value_or(rules_.size());
    if (first < rules_.size()) return fmt::format("rule {} may decide some of it", first + 1);
    return earlier_.is_exhausted() ? "there are too many rules to compare it with all before it" : "";
  }

  void leave_ports(Transport transport, const RangeSet& ports) {
    PortSet& set = ports_of(transport);
    set = to_port_set(RangeSet(set).intersected(ports.complement(65535)));
  }

  std::string leave_destinations(const RangeSet& destinations) {
    const auto prefixes = to_prefixes(destinations);
    if (auto why = too_many(prefixes.size() + scope_.excluded.size()); !why.empty()) return why;
    scope_.excluded.insert(scope_.excluded.end(), prefixes.begin(), prefixes.end());
    left_.destination = left_.destination.intersected(destinations.complement(~Wide{0}));
    return {};
  }

  std::string leave_clients(const RangeSet& clients) {
    if (!can_choose_clients())
      return "the kernel is not told about single clients beside interfaces (--from) or local traffic (--local)";
    const RangeSet others = clients.complement(~Wide{0});
    const RangeSet before = ranges_meeting(left_.source, clients);
    const std::size_t networks =
        client_networks_ - to_prefixes(before).size() + to_prefixes(before.intersected(others)).size();
    if (auto why = too_many(networks); !why.empty()) return why;
    client_networks_ = networks;
    left_.source = left_.source.intersected(others);
    clients_changed_ = true;
    return {};
  }

  [[nodiscard]] std::string too_many(std::size_t networks) const {
    if (networks <= most_networks_) return {};
    return fmt::format("it takes {} networks to say, and at most {} are told to the kernel", networks, most_networks_);
  }

  const std::vector<Rule>& rules_;
  Scope& scope_;
  std::size_t most_networks_;
  RuleBox left_;  ///< of the scope, but for its ports
  std::size_t client_networks_ = 0;
  bool clients_changed_ = false;
  BoxOrder earlier_;                            ///< rules that are no bypass
  std::optional<std::size_t> first_unknown_{};  ///< of them: with more boxes than are compared
};

}  // namespace

std::vector<RelayedBypass> apply_bypass(const std::vector<Rule>& rules, Scope& scope, std::size_t most_networks) {
  return Compiler(rules, scope, most_networks).run();
}

std::size_t most_bypass_networks(const std::vector<Backend>& backends) noexcept {
  const bool chains =
      !backends.empty() && (backends.front() == Backend::iptables_nft || backends.front() == Backend::iptables_legacy);
  return chains ? kMostInChains : kMostInSets;
}

bool is_empty(const Scope& scope) noexcept {
  return scope.tcp.empty() && scope.udp.empty();
}

}  // namespace limpid
