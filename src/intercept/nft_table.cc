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
#include "intercept/table_writer.h"

namespace limpid {
namespace {

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

class MainTable : private TableWriter {
 public:
  using TableWriter::TableWriter;

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
    if (inputs_.needs_conntrack) add_conntrack();
    if (inputs_.guards_listener) add_guard();
    if (scope_.local) write_local_chains(*this);
    if (inputs_.keeps_source_port || inputs_.ownership.keeps_udp_port) add_output();
    line(0, "}");
    return take();
  }

 private:
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
    if (scope_.local)
      rule(fmt::format("iifname \"lo\" {} goto intercept", has_local_mark()), "what programs here send");
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

  /// conntrack is at work in a network namespace as long as a rule there asks for it (nf_ct_netns_get() in nft_ct_get_init(),
  /// net/netfilter/nft_ct.c), run or not. getorigdst() then finds our connections: their addresses are the original ones.
  void add_conntrack() {
    begin_chain("tracked");
    rule("ct state new accept", "never reached: that it asks is enough for conntrack, and the proxy asks conntrack");
    end_chain();
  }

  /// What is intercepted comes through the input hook with our mark; what was dialled to this host comes without.
  void add_guard() {
    const Ownership& owner = inputs_.ownership;
    begin_chain("listener");
    line(2, "type filter hook input priority mangle; policy accept;");
    rule(fmt::format("tcp dport {} meta mark & 0x{:08x} != 0x{:08x} reject with tcp reset", owner.listener.value,
                     owner.mark.mask, owner.mark.intercept),
         "whoever dials the proxy itself: it would dial itself");
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
};

}  // namespace

std::vector<std::string_view> rejections(const Scope& scope) {
  std::vector<std::string_view> rules;
  if (!scope.tcp.empty()) rules.emplace_back("meta l4proto tcp reject with tcp reset");
  if (!scope.udp.empty()) rules.emplace_back("meta l4proto udp reject with icmpx type port-unreachable");
  return rules;
}

std::string render_nft_table(const PlanInputs& inputs) {
  return MainTable(inputs).render();
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
