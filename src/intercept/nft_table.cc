// Writes the nft table, rule by rule.
//
// The path of a packet through the table, in prerouting:
//   - it belongs to a flow that is intercepted already: marked, delivered to its socket (divert);
//   - it is our own, or to a port that nobody asked for: left alone;
//   - it is meant for this host, excluded, or from or to elsewhere: left alone (scope, clients);
//   - it is in scope: handed to the listener on the loopback address (tproxy), marked, delivered (intercept).
// What this host's own programs send comes by another way (local_traffic.cc): marked in the output hook if it is in scope (local_output,
// local_scope, programs, local_mark), it arrives on the loopback interface (local).
// Datagrams whose target leg has the client's port go the same way, but before conntrack (datagrams).
// `accept` ends this base chain only; the chains of others on the same hook still see the packet (nft(8), "VERDICT
// STATEMENTS").
//
// Few intervals are rules of their own and not a set: an interval set gets its elements a moment after the rules of the
// same transaction are at work (seen on Linux 6.18: nft_rbtree and nft_set_pipapo commit after the generation has
// changed), and in that moment a packet in scope would slip through. Sets of single values are complete at once.
#include "intercept/nft_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <vector>

#include "intercept/local_traffic.h"

namespace limpid {
namespace {

/// A first packet of a connection: neither answer, end nor reset.
constexpr std::string_view kNotSyn = "tcp flags & (fin | syn | rst | ack) != syn";

/// More prefixes than this become a set: each rule costs every first packet some ten nanoseconds.
constexpr std::size_t kMostPrefixRules = 64;

constexpr std::array kFamilies = {Family::ipv4, Family::ipv6};

std::string_view nft_family(Family family) {
  return family == Family::ipv4 ? "ipv4" : "ipv6";
}
std::string_view nft_header(Family family) {
  return family == Family::ipv4 ? "ip" : "ip6";
}

bool in_scope(const Scope& scope, Family family) {
  return family == Family::ipv4 ? scope.ipv4 : scope.ipv6;
}

/// One family's prefixes, sorted, without those that another one contains: nft refuses overlapping intervals.
std::vector<Prefix> disjoint(const std::vector<Prefix>& prefixes, Family family) {
  std::vector<Prefix> sorted;
  std::ranges::copy_if(prefixes, std::back_inserter(sorted), [&](const Prefix& p) { return p.family() == family; });
  std::ranges::sort(sorted);
  std::vector<Prefix> kept;
  for (const Prefix& prefix : sorted) {
    if (kept.empty() || !kept.back().contains(prefix.network())) kept.push_back(prefix);
  }
  return kept;
}

bool is_everything(const std::vector<Prefix>& disjoint_prefixes) {
  return disjoint_prefixes.size() == 1 && disjoint_prefixes.front().length() == 0;
}

/// Names come validated (validate_interface_name); should one slip through, it still cannot leave its quotes.
std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    const bool allowed = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                         std::string_view("_.:@-").find(c) != std::string_view::npos;
    text += allowed ? c : '_';
  }
  return text + '"';
}

/// Collects the lines of a table definition and knows what the rules of this plan have in common.
class TableText {
 public:
  explicit TableText(const PlanInputs& inputs) : inputs_(inputs), scope_(inputs.scope) {}

  std::string render() {
    line(0, fmt::format("table inet {} {{", table_name_of(inputs_.ownership.name)));
    line(1, fmt::format("comment \"{}\"", inputs_.ownership.to_comment()));
    add_prefix_sets("from", scope_.from_prefixes);
    add_prefix_sets("to", scope_.to_prefixes);
    add_prefix_sets("excluded", scope_.excluded);
    add_divert();
    add_prerouting();
    if (inputs_.ownership.keeps_udp_port) add_datagrams();
    if (scope_.forwarded) {
      add_scope();
      if (!scope_.to_prefixes.empty()) add_clients();
    }
    add_intercept();
    if (scope_.local) add_local();
    if (inputs_.keeps_source_port || inputs_.ownership.keeps_udp_port) add_output();
    line(0, "}");
    return std::move(text_);
  }

 private:
  void line(unsigned depth, std::string_view content) {
    text_.append(std::size_t{2} * depth, ' ').append(content).push_back('\n');
  }
  void rule(std::string_view content, std::string_view comment) {
    line(2, fmt::format("{} comment \"{}\"", content, comment));
  }
  void begin_chain(std::string_view name) {
    line(0, "");
    line(1, fmt::format("chain {} {{", name));
  }
  void end_chain() { line(1, "}"); }

  /// A set ROLE_FAMILY for each family that has too many prefixes for rules of their own.
  void add_prefix_sets(std::string_view role, const std::vector<Prefix>& prefixes) {
    for (const Family family : kFamilies) {
      const std::vector<Prefix> mine = disjoint(prefixes, family);
      if (!in_scope(scope_, family) || mine.size() <= kMostPrefixRules) continue;
      line(0, "");
      line(1, fmt::format("set {}_{} {{", role, nft_family(family)));
      line(2, fmt::format("type {}_addr", nft_family(family)));
      line(2, "flags interval");
      line(2, "elements = {");
      for (std::size_t i = 0; i < mine.size(); i += 4) {
        std::vector<std::string> row;
        for (std::size_t at = i; at < std::min(i + 4, mine.size()); ++at) row.push_back(mine[at].to_string());
        line(3, fmt::format("{},", fmt::join(row, ", ")));
      }
      line(2, "}");
      line(1, "}");
    }
  }

  /// Rules that give `verdict` to what goes to (FIELD daddr), or comes from (saddr), one of the prefixes.
  void add_prefix_rules(std::string_view role, std::string_view field, const std::vector<Prefix>& prefixes,
                        std::string_view verdict) {
    for (const Family family : kFamilies) {
      const std::vector<Prefix> mine = disjoint(prefixes, family);
      if (!in_scope(scope_, family) || mine.empty()) continue;
      if (is_everything(mine)) {
        line(2, fmt::format("meta nfproto {} {}", nft_family(family), verdict));
      } else if (mine.size() > kMostPrefixRules) {
        line(2, fmt::format("{} {} @{}_{} {}", nft_header(family), field, role, nft_family(family), verdict));
      } else {
        for (const Prefix& prefix : mine) {
          line(2, fmt::format("{} {} {} {}", nft_header(family), field, prefix.to_string(), verdict));
        }
      }
    }
  }

  /// Rules for what goes to one of the ports (FIELD dport), or comes from one (sport).
  void add_port_rules(std::string_view protocol, std::string_view field, const PortSet& ports,
                      std::string_view verdict) {
    std::vector<std::string> single;
    for (const PortRange& range : ports.ranges()) {
      if (range.first == range.last) single.push_back(fmt::format("{}", range.first.value));
    }
    if (!single.empty()) line(2, fmt::format("{} {} {{ {} }} {}", protocol, field, fmt::join(single, ", "), verdict));
    for (const PortRange& range : ports.ranges()) {
      if (range.first == range.last) continue;
      line(2, fmt::format("{} {} {}-{} {}", protocol, field, range.first.value, range.last.value, verdict));
    }
  }

  /// Sets our bits of the mark and leaves everybody else's as they are.
  std::string set_intercept_mark() const {
    const MarkField& mark = inputs_.ownership.mark;
    return fmt::format("meta mark set meta mark & 0x{:08x} | 0x{:08x}", ~mark.mask, mark.intercept);
  }
  std::string has_bypass_mark() const {
    const MarkField& mark = inputs_.ownership.mark;
    return fmt::format("meta mark & 0x{:08x} == 0x{:08x}", mark.mask, mark.bypass);
  }
  std::string has_local_mark() const {
    const MarkField& mark = inputs_.ownership.mark;
    return fmt::format("meta mark & 0x{0:08x} == 0x{0:08x}", mark.mask);
  }
  std::string_view notrack() const { return inputs_.keeps_source_port ? " notrack" : ""; }

  /// A transparent listener of somebody else's on any address matches every packet to its port, and must not. One rule
  /// with `socket wildcard 0` cannot say that: `wildcard` ends a rule for sockets that are not full ones
  /// (nft_socket_eval in net/netfilter/nft_socket.c), and the last packet of a handshake and those of TIME_WAIT belong
  /// to such sockets.
  void add_divert() {
    begin_chain("divert");
    rule("socket wildcard 1 return", "a listener on any address, not a flow");
    rule(fmt::format("{}{} accept", set_intercept_mark(), notrack()), "intercepted flows: deliver to their sockets");
    end_chain();
  }

  void add_prerouting() {
    begin_chain("prerouting");
    // With the client's port kept as well, both legs of a flow have one 5-tuple, which conntrack would take for one
    // connection. So they must be decided before conntrack (priority -200) sees them, and kept out of it.
    line(2, fmt::format("type filter hook prerouting priority {}; policy accept;",
                        inputs_.keeps_source_port ? "raw" : "mangle"));
    // Not the first packet: a SYN that meets a TIME_WAIT socket must go to tproxy, which alone knows how to reopen it
    // (nf_tproxy_handle_time_wait4 in net/ipv4/netfilter/nf_tproxy_ipv4.c).
    line(2, fmt::format("{} socket transparent 1 jump divert", kNotSyn));
    if (!scope_.udp.empty() && !inputs_.ownership.keeps_udp_port)
      line(2, "meta l4proto udp socket transparent 1 jump divert");
    // The socket of an ICMP error is that of the packet which it quotes (nf_sk_lookup_slow_v4).
    if (inputs_.keeps_source_port && inputs_.ownership.keeps_udp_port) {
      // conntrack knows the datagrams that errors quote, and firewalls expect it to say so. It has not seen what TCP sent.
      rule("meta l4proto icmp @th,136,8 6 socket transparent 1 jump divert", "errors about TCP: the quoted protocol");
      rule("meta l4proto ipv6-icmp @th,112,8 6 socket transparent 1 jump divert", "the same");
    } else {
      rule("meta l4proto { icmp, ipv6-icmp } socket transparent 1 jump divert", "errors about them");
    }
    rule(fmt::format("{} accept", has_bypass_mark()), "our own sockets");
    if (scope_.local) rule(fmt::format("iifname \"lo\" {} goto local", has_local_mark()), "what programs here send");
    if (!scope_.forwarded) {
      end_chain();
      return;
    }
    if (inputs_.fail == FailMode::open) {
      rule(fmt::format("{} accept", kNotSyn), "connections that we do not know are forwarded");
    }
    add_selection_by_port("scope", !inputs_.ownership.keeps_udp_port);
    end_chain();
  }

  /// Both legs of such a datagram have one 5-tuple. conntrack sees the target's side only (and a NAT translates it, or a
  /// firewall knows its answers), because the client's side is taken here, before conntrack (priority -200), and left out.
  void add_datagrams() {
    begin_chain("datagrams");
    line(2, "type filter hook prerouting priority raw; policy accept;");
    line(2, "meta l4proto != udp accept");
    line(2, "socket transparent 1 jump divert_datagrams");
    rule(fmt::format("{} accept", has_bypass_mark()), "our own sockets");
    leave_other_family_alone();
    add_port_rules("udp", "dport", scope_.udp, "goto scope");
    end_chain();

    begin_chain("translated");
    // Behind NAT, which has put the client's address back into answers to what it had translated.
    line(2, "type filter hook prerouting priority dstnat + 10; policy accept;");
    line(2, "meta l4proto { udp, icmp, ipv6-icmp } socket transparent 1 jump divert_datagrams");
    end_chain();

    begin_chain("divert_datagrams");
    rule("socket wildcard 1 return", "a listener on any address, not a flow");
    rule(fmt::format("{} accept", set_intercept_mark()), "answers to our target legs");
    end_chain();
  }

  void leave_other_family_alone() {
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) line(2, fmt::format("meta nfproto {} accept", nft_family(family)));
    }
  }

  void add_selection_by_port(std::string_view next, bool with_udp = true) {
    leave_other_family_alone();
    add_port_rules("tcp", "dport", scope_.tcp, fmt::format("goto {}", next));
    if (with_udp) add_port_rules("udp", "dport", scope_.udp, fmt::format("goto {}", next));
  }

  /// Selects by destination; what is left goes to chain `next` where destinations are named, and else to what follows here.
  void add_destinations(std::string_view next) {
    rule("fib daddr type { local, broadcast, anycast, multicast } accept", "meant for this host");
    if (scope_.ipv4) line(2, "ip daddr 169.254.0.0/16 accept");
    if (scope_.ipv6) line(2, "ip6 daddr fe80::/10 accept");
    add_prefix_rules("excluded", "daddr", scope_.excluded, "accept");
    if (!scope_.to_prefixes.empty()) add_prefix_rules("to", "daddr", scope_.to_prefixes, fmt::format("goto {}", next));
  }

  void add_scope() {
    begin_chain("scope");
    add_destinations("clients");
    if (scope_.to_prefixes.empty()) add_sources();
    end_chain();
  }

  void add_clients() {
    begin_chain("clients");
    add_sources();
    end_chain();
  }

  void add_sources() {
    if (scope_.from_interfaces.empty() && scope_.from_prefixes.empty()) {
      line(2, "goto intercept");
      return;
    }
    if (!scope_.from_interfaces.empty()) {
      std::vector<std::string> names;
      std::ranges::transform(scope_.from_interfaces, std::back_inserter(names), quoted);
      std::ranges::sort(names);
      names.erase(std::ranges::unique(names).begin(), names.end());
      line(2, fmt::format("iifname {{ {} }} goto intercept", fmt::join(names, ", ")));
    }
    add_prefix_rules("from", "saddr", scope_.from_prefixes, "goto intercept");
  }

  void add_tproxy(std::string_view protocol) {
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) continue;
      const bool untracked = inputs_.keeps_source_port || (inputs_.ownership.keeps_udp_port && protocol == "udp");
      const std::string_view loopback = family == Family::ipv4 ? "127.0.0.1" : "[::1]";
      // Without a listener `tproxy` leaves the rule, and the packet goes on (nft_tproxy.c: NFT_BREAK): what follows
      // decides.
      line(2, fmt::format("meta nfproto {} meta l4proto {} tproxy {} to {}:{} {}{} accept", nft_family(family),
                          protocol, nft_header(family), loopback, inputs_.ownership.listener.value,
                          set_intercept_mark(), untracked ? " notrack" : ""));
    }
  }

  void add_intercept() {
    begin_chain("intercept");
    if (!scope_.tcp.empty()) add_tproxy("tcp");
    if (!scope_.udp.empty()) add_tproxy("udp");
    if (inputs_.fail == FailMode::closed) {
      for (const std::string_view rejection : rejections(scope_)) rule(rejection, "fail-closed: nobody listens");
    }
    end_chain();
  }

  void add_local() {
    add_served_sets();
    add_local_output();
    begin_chain("local_scope");
    add_destinations("programs");
    if (scope_.to_prefixes.empty()) line(2, "goto programs");
    end_chain();
    add_programs();
    begin_chain("local_mark");
    rule(fmt::format("meta mark set meta mark | 0x{:08x} accept", inputs_.ownership.mark.mask),
         "routed again: to this host, through lo");
    end_chain();
    begin_chain("local");
    rule(fmt::format("{} accept", kNotSyn), "connections that we do not know go their way");
    line(2, "goto intercept");
    end_chain();
  }

  /// A route chain: the kernel looks for another route when the mark has changed.
  void add_local_output() {
    begin_chain("local_output");
    line(2, "type route hook output priority mangle; policy accept;");
    rule(fmt::format("meta mark & 0x{:08x} != 0x00000000 accept", inputs_.ownership.mark.mask), "our own sockets");
    if (!scope_.udp.empty()) {
      for (const Family family : kFamilies) {
        if (!in_scope(scope_, family)) continue;
        rule(fmt::format("{} daddr . udp dport . udp sport @served_{} accept", nft_header(family), nft_family(family)),
             "answers of servers here");
      }
    }
    add_selection_by_port("local_scope");
    end_chain();
  }

  /// A datagram does not say whether it is a question or an answer. So we remember who has written to this host, unless to a port that
  /// clients have: somebody outside who guesses the port of a question must not make it pass us by.
  void add_served_sets() {
    if (scope_.udp.empty()) return;
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) continue;
      line(0, "");
      line(1, fmt::format("set served_{} {{", nft_family(family)));
      line(2, fmt::format("type {}_addr . inet_service . inet_service", nft_family(family)));
      line(2, "size 65535");
      line(2, "flags dynamic,timeout");
      line(2, "timeout 5m");
      line(1, "}");
    }
    begin_chain("local_input");
    line(2, "type filter hook input priority mangle; policy accept;");
    rule(fmt::format("meta mark & 0x{:08x} != 0x00000000 accept", inputs_.ownership.mark.mask), "our own sockets");
    const PortRange& clients = inputs_.client_ports;
    line(2, fmt::format("udp dport {}-{} accept", clients.first.value, clients.last.value));
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) continue;
      add_port_rules(fmt::format("meta nfproto {} udp", nft_family(family)), "sport", scope_.udp,
                     fmt::format("update @served_{} {{ {} saddr . udp sport . udp dport }}", nft_family(family),
                                 nft_header(family)));
    }
    end_chain();
  }

  /// A program that has closed its socket still has bytes on the way, without an owner that could be asked for: prerouting finds the
  /// flow that they belong to, or sends them on.
  void add_programs() {
    constexpr std::string_view kHasOwner = "meta skuid 0-4294967295";
    begin_chain("programs");
    for (const std::string& match : program_matches(scope_.local->never)) line(2, match + " accept");
    const std::vector<std::string> wanted = program_matches(scope_.local->only);
    if (wanted.empty()) {
      if (!scope_.tcp.empty()) line(2, "meta l4proto tcp goto local_mark");
      if (!scope_.udp.empty())
        rule(fmt::format("meta l4proto udp {} goto local_mark", kHasOwner), "not the kernel's tunnels");
    } else {
      for (const std::string& match : wanted) line(2, match + " goto local_mark");
      line(2, fmt::format("{} accept", kHasOwner));
      if (!scope_.tcp.empty()) rule(fmt::format("{} goto local_mark", kNotSyn), "the rest of closed connections");
    }
    end_chain();
  }

  void add_output() {
    begin_chain("output");
    line(2, "type filter hook output priority raw; policy accept;");
    if (inputs_.ownership.keeps_udp_port) {
      line(2, "meta l4proto udp socket transparent 1 accept");
      if (!inputs_.keeps_source_port) line(2, "meta l4proto != { udp, icmp, ipv6-icmp } accept");
    }
    rule(fmt::format("{} notrack", has_bypass_mark()), "both legs of a flow have one 5-tuple");
    end_chain();
  }

  const PlanInputs& inputs_;
  const Scope& scope_;
  std::string text_;
};

}  // namespace

std::vector<std::string_view> rejections(const Scope& scope) {
  std::vector<std::string_view> rules;
  if (!scope.tcp.empty()) rules.emplace_back("meta l4proto tcp reject with tcp reset");
  if (!scope.udp.empty()) rules.emplace_back("meta l4proto udp reject with icmpx type port-unreachable");
  return rules;
}

std::string render_nft_table(const PlanInputs& inputs) {
  return TableText(inputs).render();
}

std::vector<CompanionTable> render_companion_tables(const PlanInputs& inputs) {
  std::vector<CompanionTable> tables;
  if (!inputs.scope.local) return tables;
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family)) continue;
    tables.push_back({.name = {.family = std::string(nft_header(family)), .name = table_name_of(inputs.ownership.name)},
                      .definition = render_onward_table(inputs.ownership, family)});
  }
  return tables;
}

std::string render_draining_table(const Plan& plan) {
  std::string text = fmt::format("flush chain inet {} intercept\n", plan.table_name);
  if (plan.inputs.fail == FailMode::closed) {
    for (const std::string_view rejection : rejections(plan.inputs.scope)) {
      text += fmt::format("add rule inet {} intercept {} comment \"draining\"\n", plan.table_name, rejection);
    }
  }
  return text;
}

}  // namespace limpid
