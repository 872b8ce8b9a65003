// Makes the plan out of values: the nft table's text, the rules and the routes. Pure; called by the command line, the
// service and the public Interception. Never looks at the kernel.
//
// The path of a packet through the table, in prerouting:
//   - it belongs to a connection that is intercepted already: marked, delivered to its socket (divert);
//   - it is our own, or not in scope, or meant for this host: left alone;
//   - it is in scope: handed to the listener on the loopback address (tproxy), marked, delivered.
// `accept` ends this base chain only; the chains of others on the same hook still see the packet (nft(8), "VERDICT
// STATEMENTS").
#include "intercept/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace limpid {
namespace {

/// A first packet of a connection: neither answer, end nor reset.
constexpr std::string_view kNotSyn = "tcp flags & (fin | syn | rst | ack) != syn";

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
    add_sets();
    add_divert();
    add_prerouting();
    add_intercept();
    if (inputs_.keeps_source_port) add_output();
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

  void add_set(std::string_view name, std::string_view type, const std::vector<std::string>& elements) {
    line(0, "");
    line(1, fmt::format("set {} {{", name));
    line(2, fmt::format("type {}", type));
    line(2, "flags interval");
    if (elements.size() <= 4) {
      line(2, fmt::format("elements = {{ {} }}", fmt::join(elements, ", ")));
    } else {
      line(2, "elements = {");
      for (std::size_t i = 0; i < elements.size(); i += 4) {
        const auto row = elements.begin() + static_cast<std::ptrdiff_t>(i);
        const auto row_end = elements.begin() + static_cast<std::ptrdiff_t>(std::min(i + 4, elements.size()));
        line(3, fmt::format("{},", fmt::join(row, row_end, ", ")));
      }
      line(2, "}");
    }
    line(1, "}");
  }

  /// A set named ROLE_FAMILY, where there is something to put into it.
  void add_prefix_set(std::string_view role, const std::vector<Prefix>& prefixes) {
    for (const Family family : kFamilies) {
      const std::vector<Prefix> mine = disjoint(prefixes, family);
      if (!in_scope(scope_, family) || mine.empty() || is_everything(mine)) continue;
      std::vector<std::string> elements;
      elements.reserve(mine.size());
      for (const Prefix& prefix : mine) elements.push_back(prefix.to_string());
      add_set(fmt::format("{}_{}", role, nft_family(family)), fmt::format("{}_addr", nft_family(family)), elements);
    }
  }

  void add_sets() {
    std::vector<std::string> ports;
    for (const PortRange& range : scope_.tcp.ranges()) {
      ports.push_back(range.first == range.last ? fmt::format("{}", range.first.value)
                                                : fmt::format("{}-{}", range.first.value, range.last.value));
    }
    add_set("tcp_ports", "inet_service", ports);
    add_prefix_set("from", scope_.from_prefixes);
    add_prefix_set("to", scope_.to_prefixes);
    add_prefix_set("excluded", scope_.excluded);
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

  void add_prerouting() {
    line(0, "");
    line(1, "chain prerouting {");
    // With the client's port kept as well, both legs of a flow have one 5-tuple, which conntrack would take for one
    // connection. So they must be decided before conntrack (priority -200) sees them, and kept out of it.
    line(2, fmt::format("type filter hook prerouting priority {}; policy accept;",
                        inputs_.keeps_source_port ? "raw" : "mangle"));
    line(2, "meta l4proto != tcp accept");
    // Not the first packet: a SYN that meets a TIME_WAIT socket must go to tproxy, which alone knows how to reopen it
    // (nf_tproxy_handle_time_wait4 in net/ipv4/netfilter/nf_tproxy_ipv4.c).
    line(2, fmt::format("{} socket transparent 1 jump divert", kNotSyn));
    rule(fmt::format("{} accept", has_bypass_mark()), "our own sockets");
    if (inputs_.fail == FailMode::open) {
      rule(fmt::format("{} accept", kNotSyn), "connections that we do not know are forwarded");
    }
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) line(2, fmt::format("meta nfproto {} accept", nft_family(family)));
    }
    line(2, "tcp dport != @tcp_ports accept");
    rule("fib daddr type { local, broadcast, anycast, multicast } accept", "meant for this host");
    if (scope_.ipv4) line(2, "ip daddr 169.254.0.0/16 accept");
    if (scope_.ipv6) line(2, "ip6 daddr fe80::/10 accept");
    add_exclusions();
    add_destinations();
    add_sources();
    line(1, "}");
  }

  void add_exclusions() {
    for (const Family family : kFamilies) {
      const std::vector<Prefix> excluded = disjoint(scope_.excluded, family);
      if (!in_scope(scope_, family) || excluded.empty()) continue;
      if (is_everything(excluded)) {
        rule(fmt::format("meta nfproto {} accept", nft_family(family)), "excluded");
      } else {
        line(2, fmt::format("{} daddr @excluded_{} accept", nft_header(family), nft_family(family)));
      }
    }
  }

  void add_destinations() {
    if (scope_.to_prefixes.empty()) return;
    for (const Family family : kFamilies) {
      const std::vector<Prefix> wanted = disjoint(scope_.to_prefixes, family);
      if (!in_scope(scope_, family) || is_everything(wanted)) continue;
      if (wanted.empty()) {
        line(2, fmt::format("meta nfproto {} accept", nft_family(family)));
      } else {
        line(2, fmt::format("{} daddr != @to_{} accept", nft_header(family), nft_family(family)));
      }
    }
  }

  void add_sources() {
    if (scope_.from_interfaces.empty() && scope_.from_prefixes.empty()) {
      line(2, "goto intercept");
      return;
    }
    if (!scope_.from_interfaces.empty()) {
      std::vector<std::string> names;
      names.reserve(scope_.from_interfaces.size());
      for (const std::string& name : scope_.from_interfaces) names.push_back(quoted(name));
      std::ranges::sort(names);
      names.erase(std::ranges::unique(names).begin(), names.end());
      line(2, fmt::format("iifname {{ {} }} goto intercept", fmt::join(names, ", ")));
    }
    for (const Family family : kFamilies) {
      const std::vector<Prefix> clients = disjoint(scope_.from_prefixes, family);
      if (!in_scope(scope_, family) || clients.empty()) continue;
      if (is_everything(clients)) {
        line(2, fmt::format("meta nfproto {} goto intercept", nft_family(family)));
      } else {
        line(2, fmt::format("{} saddr @from_{} goto intercept", nft_header(family), nft_family(family)));
      }
    }
  }

  /// A transparent listener of somebody else's on any address matches every packet to its port, and must not. One rule
  /// with `socket wildcard 0` cannot say that: `wildcard` ends a rule for sockets that are not full ones
  /// (nft_socket_eval in net/netfilter/nft_socket.c), and the last packet of a handshake and those of TIME_WAIT belong
  /// to such sockets.
  void add_divert() {
    line(0, "");
    line(1, "chain divert {");
    rule("socket wildcard 1 return", "a listener on any address, not a connection");
    rule(fmt::format("{}{} accept", set_intercept_mark(), notrack()),
         "intercepted connections: deliver to their sockets");
    line(1, "}");
  }

  void add_intercept() {
    line(0, "");
    line(1, "chain intercept {");
    for (const Family family : kFamilies) {
      if (!in_scope(scope_, family)) continue;
      const std::string_view loopback = family == Family::ipv4 ? "127.0.0.1" : "[::1]";
      // Without a listener `tproxy` leaves the rule, and the packet goes on (nft_tproxy.c: NFT_BREAK): what follows
      // decides.
      line(2, fmt::format("meta nfproto {} meta l4proto tcp tproxy {} to {}:{} {}{} accept", nft_family(family),
                          nft_header(family), loopback, inputs_.ownership.listener.value, set_intercept_mark(),
                          notrack()));
    }
    if (inputs_.fail == FailMode::closed) rule("meta l4proto tcp reject with tcp reset", "fail-closed: nobody listens");
    line(1, "}");
  }

  void add_output() {
    line(0, "");
    line(1, "chain output {");
    line(2, "type filter hook output priority raw; policy accept;");
    rule(fmt::format("meta l4proto tcp {} notrack", has_bypass_mark()), "both legs of a flow have one 5-tuple");
    line(1, "}");
  }

  const PlanInputs& inputs_;
  const Scope& scope_;
  std::string text_;
};

/// The rules of one family. The first keeps reverse look-ups out of our table: source validation (src_valid_mark=1, in
/// fib_validate_source, net/ipv4/fib_frontend.c), firewalld's IPv6_rpfilter (`fib saddr . mark . iif oif`) and replies
/// with a reflected mark (fwmark_reflect=1) all ask with iif lo and the packet's mark, and would be told that every
/// address is local. The rule that `goto` leads to comes first, or the jump would be unresolved for a moment.
void append_rules(std::vector<RuleSpec>& rules, Family family, const Ownership& ownership) {
  const std::uint32_t first = ownership.priority.value;
  RuleSpec landing;
  landing.family = family;
  landing.priority = {first + 2};
  landing.action = RuleAction::nop;
  landing.protocol = kRouteProtocol;

  RuleSpec deliver = landing;
  deliver.priority = {first + 1};
  deliver.mark = ownership.mark.intercept_mark();
  deliver.action = RuleAction::lookup;
  deliver.table = ownership.table;

  RuleSpec spare_reverse_lookups = landing;
  spare_reverse_lookups.priority = {first};
  spare_reverse_lookups.mark = ownership.mark.intercept_mark();
  spare_reverse_lookups.input_interface = "lo";
  spare_reverse_lookups.action = RuleAction::jump;
  spare_reverse_lookups.jump_target = landing.priority;

  rules.push_back(landing);
  rules.push_back(spare_reverse_lookups);
  rules.push_back(deliver);
}

}  // namespace

Plan make_plan(const PlanInputs& inputs) {
  Plan plan;
  plan.inputs = inputs;
  plan.table_name = table_name_of(inputs.ownership.name);
  plan.nft_table = TableText(inputs).render();
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family)) continue;
    plan.routes.push_back({.destination = Prefix::everything(family),
                           .table = inputs.ownership.table,
                           .local = true,
                           .device = "lo",
                           .gateway = std::nullopt,
                           .protocol = kRouteProtocol});
    append_rules(plan.rules, family, inputs.ownership);
  }
  plan.sysctls = inputs.sysctls;
  return plan;
}

std::string render_draining_table(const Plan& plan) {
  std::string text = fmt::format("flush chain inet {} intercept\n", plan.table_name);
  if (plan.inputs.fail == FailMode::closed) {
    text += fmt::format("add rule inet {} intercept meta l4proto tcp reject with tcp reset comment \"draining\"\n",
                        plan.table_name);
  }
  return text;
}

std::string render_nft_replacement(const Plan& plan) {
  // The first line makes the second one succeed whether or not there is a table; nft sends all of it as one
  // transaction.
  return fmt::format("table inet {0}\ndelete table inet {0}\n{1}", plan.table_name, plan.nft_table);
}

}  // namespace limpid
