// Writes the nft table, rule by rule.
//
// The path of a packet through the table, in prerouting:
//   - it belongs to a flow that is intercepted already: marked, delivered to its socket (divert);
//   - it is our own, or to a port that nobody asked for: left alone;
//   - it is meant for this host, excluded, or from or to elsewhere: left alone (scope, clients);
//   - it is in scope: handed to the listener on the loopback address (tproxy), marked, delivered (intercept).
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
    if (inputs_.keeps_udp_port) add_datagrams();
    add_scope();
    if (!scope_.to_prefixes.empty()) add_clients();
    add_intercept();
    if (inputs_.keeps_source_port || inputs_.keeps_udp_port) add_output();
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

  /// Rules that send what goes to one of the ports on to `verdict`.
  void add_port_rules(std::string_view protocol, const PortSet& ports, std::string_view verdict) {
    std::vector<std::string> single;
    for (const PortRange& range : ports.ranges()) {
      if (range.first == range.last) single.push_back(fmt::format("{}", range.first.value));
    }
    if (!single.empty()) line(2, fmt::format("{} dport {{ {} }} {}", protocol, fmt::join(single, ", "), verdict));
    for (const PortRange& range : ports.ranges()) {
      if (range.first == range.last) continue;
      line(2, fmt::format("{} dport {}-{} {}", protocol, range.first.value, range.last.value, verdict));
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
    if (!scope_.udp.empty() && !inputs_.keeps_udp_port) line(2, "meta l4proto udp socket transparent 1 jump divert");
    // The socket of an ICMP error is that of the packet which it quotes (nf_sk_lookup_slow_v4).
    if (inputs_.keeps_source_port && inputs_.keeps_udp_port) {
      // conntrack knows the datagrams that errors quote, and firewalls expect it to say so. It has not seen what TCP sent.
      rule("meta l4proto icmp @th,136,8 6 socket transparent 1 jump divert", "errors about TCP: the quoted protocol");
      rule("meta l4proto ipv6-icmp @th,112,8 6 socket transparent 1 jump divert", "the same");
    } else {
      rule("meta l4proto { icmp, ipv6-icmp } socket transparent 1 jump divert", "errors about them");
    }
    rule(fmt::format("{} accept", has_bypass_mark()), "our own sockets");
    if (inputs_.fail == FailMode::open) {
      rule(fmt::format("{} accept", kNotSyn), "connections that we do not know are forwarded");
    }
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) line(2, fmt::format("meta nfproto {} accept", nft_family(family)));
    }
    add_port_rules("tcp", scope_.tcp, "goto scope");
    if (!inputs_.keeps_udp_port) add_port_rules("udp", scope_.udp, "goto scope");
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
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) line(2, fmt::format("meta nfproto {} accept", nft_family(family)));
    }
    add_port_rules("udp", scope_.udp, "goto scope");
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

  void add_scope() {
    begin_chain("scope");
    rule("fib daddr type { local, broadcast, anycast, multicast } accept", "meant for this host");
    if (scope_.ipv4) line(2, "ip daddr 169.254.0.0/16 accept");
    if (scope_.ipv6) line(2, "ip6 daddr fe80::/10 accept");
    add_prefix_rules("excluded", "daddr", scope_.excluded, "accept");
    if (scope_.to_prefixes.empty()) {
      add_sources();
    } else {
      add_prefix_rules("to", "daddr", scope_.to_prefixes, "goto clients");
    }
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
      for (const std::string& name : scope_.from_interfaces) names.push_back(quoted(name));
      std::ranges::sort(names);
      names.erase(std::ranges::unique(names).begin(), names.end());
      line(2, fmt::format("iifname {{ {} }} goto intercept", fmt::join(names, ", ")));
    }
    add_prefix_rules("from", "saddr", scope_.from_prefixes, "goto intercept");
  }

  void add_tproxy(std::string_view protocol) {
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) continue;
      const bool untracked = inputs_.keeps_source_port || (inputs_.keeps_udp_port && protocol == "udp");
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

  void add_output() {
    begin_chain("output");
    line(2, "type filter hook output priority raw; policy accept;");
    if (inputs_.keeps_udp_port) {
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
