// Writes the iptables rules, out of a plan's inputs; called for the plan. Pure: it runs no iptables.
//
// The path of a packet, in mangle PREROUTING (chain pre):
//   - it belongs to a flow that is intercepted already: marked, delivered to its socket (div);
//   - it is our own, or to a port that nobody asked for: left alone;
//   - it is meant for this host, excluded, or from or to elsewhere: left alone (dst, src);
//   - it is in scope: given to the listener on the loopback address by TPROXY (tpx).
// What has to be decided before conntrack (the client's port is kept) is decided in raw, by the same chains, and marked as a candidate.
//
// TPROXY drops where nobody listens (xt_TPROXY.c: NF_DROP), so a rule before it asks whether somebody does: `-m recent` knows when the
// running process has last written into /proc/net/xt_recent/NAME (heartbeat.h). Without a heartbeat, fail-open leaves the packet alone;
// fail-closed gives it the third mark, which filter FORWARD and INPUT reject (chain rej): REJECT exists nowhere else.
//
// What this host's programs send gets the third mark in mangle OUTPUT and is routed again, through lo, where TPROXY meets it (lo).
// Which connections are taken is remembered in the connection's mark: later packets may have no owner any more.
//
// `goto` everywhere: the end of a chain, and RETURN, lead back to PREROUTING and the rules of others.
#include "intercept/xtables_rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "intercept/local_traffic.h"
#include "intercept/table_writer.h"
#include "intercept/xtables_matches.h"

namespace limpid {
namespace {

constexpr std::string_view kLaterPacket = "! --syn";
class RulesetWriter {
 public:
  RulesetWriter(const PlanInputs& inputs, Family family)
      : inputs_(inputs),
        scope_(inputs.scope),
        owner_(inputs.ownership),
        family_(family),
        instance_(table_name_of(inputs.ownership.name)),
        closed_(inputs.fail == FailMode::closed) {}

  XtablesRuleset render() {
    if (decides_early()) write_raw();
    if ((closed_ && owner_.heartbeat) || inputs_.guards_listener) write_filter();
    write_mangle();
    return std::move(rules_);
  }

  XtablesRuleset render_draining() {
    if (decides_early() && scope_.forwarded) {
      table("raw");
      chain("can");
      if (closed_) candidate();
    }
    table("mangle");
    if (scope_.forwarded) {
      chain("tpx");
      if (closed_) reject_later();
    }
    if (scope_.local) {
      chain("lsc");
      if (closed_) rule(set_mark(owner_.mark.local_mark()));
      if (closed_) chain("lo");
    }
    return std::move(rules_);
  }

 private:
  [[nodiscard]] bool is_ipv4() const { return family_ == Family::ipv4; }
  [[nodiscard]] bool decides_early() const { return inputs_.keeps_source_port || owner_.keeps_udp_port; }
  [[nodiscard]] bool has_udp() const { return !scope_.udp.empty(); }
  [[nodiscard]] bool has_tcp() const { return !scope_.tcp.empty(); }
  [[nodiscard]] std::string name(std::string_view suffix) const { return xtables_chain(owner_.name, suffix); }
  [[nodiscard]] std::string to(std::string_view suffix) const { return "-g " + name(suffix); }

  void table(std::string_view table_name) {
    rules_.tables.push_back({.name = std::string(table_name), .chains = {}, .rules = {}, .jumps = {}});
  }
  /// Where there is a table there is who owns it, in a chain that no packet ever enters.
  void owned_table(std::string_view table_name) {
    table(table_name);
    chain("own");
    rule(fmt::format("-m comment --comment \"{}\"", owner_.to_comment()));
  }
  void chain(std::string_view suffix) {
    current_ = name(suffix);
    rules_.tables.back().chains.push_back(current_);
  }
  /// Writes on in a chain that is there already.
  void rule(std::string_view text) { rules_.tables.back().rules.push_back(fmt::format("{} {}", current_, text)); }
  void jump(std::string_view from, std::string_view suffix) {
    rules_.tables.back().jumps.push_back({.from = std::string(from), .to = name(suffix)});
  }

  [[nodiscard]] static std::string mark_match(const Mark& mark) {
    return fmt::format("-m mark --mark 0x{:x}/0x{:x}", mark.value, mark.mask);
  }
  [[nodiscard]] static std::string connmark_match(const Mark& mark) {
    return fmt::format("-m connmark --mark 0x{:x}/0x{:x}", mark.value, mark.mask);
  }
  [[nodiscard]] static std::string set_mark(const Mark& mark) {
    return fmt::format("-j MARK --set-xmark 0x{:x}/0x{:x}", mark.value, mark.mask);
  }
  [[nodiscard]] static std::string set_connmark(const Mark& mark) {
    return fmt::format("-j CONNMARK --set-xmark 0x{:x}/0x{:x}", mark.value, mark.mask);
  }
  [[nodiscard]] std::string heart(bool beats) const {
    return fmt::format("-m recent{} --rcheck --seconds {} --name {} --mask {} --rsource", beats ? "" : " !",
                       heart_patience_seconds(inputs_.fail), instance_, is_ipv4() ? "0.0.0.0" : "::");
  }
  [[nodiscard]] std::string_view icmp() const { return is_ipv4() ? "icmp" : "ipv6-icmp"; }

  // --- what raw, mangle and OUTPUT have in common -------------------------------------------------------------------

  void write_ports(std::string_view next, bool with_tcp, bool with_udp) {
    if (with_tcp) {
      for (const std::string& match : port_matches("tcp", scope_.tcp)) rule(match + " " + to(next));
    }
    if (with_udp) {
      for (const std::string& match : port_matches("udp", scope_.udp)) rule(match + " " + to(next));
    }
  }

  void write_prefixes(std::string_view flag, const std::vector<Prefix>& prefixes, std::string_view verdict) {
    const std::vector<Prefix> mine = disjoint(prefixes, family_);
    if (is_everything(mine)) {
      rule(verdict);
      return;
    }
    for (const Prefix& prefix : mine) rule(fmt::format("{} {} {}", flag, prefix.to_string(), verdict));
  }

  /// Selects by destination; what is left goes to chain `next`.
  void write_destinations(std::string_view next) {
    if (is_ipv4()) {
      rule("-m addrtype --dst-type LOCAL,BROADCAST,ANYCAST,MULTICAST -j RETURN");
    } else {
      // With MULTICAST in its list, IPv6's `addrtype` asks for all at once (match_type6 in net/netfilter/xt_addrtype.c).
      rule("-m addrtype --dst-type LOCAL,ANYCAST -j RETURN");
      rule("-d ff00::/8 -j RETURN");
    }
    rule(fmt::format("-d {} -j RETURN", is_ipv4() ? "169.254.0.0/16" : "fe80::/10"));
    write_prefixes("-d", scope_.excluded, "-j RETURN");
    if (scope_.to_prefixes.empty()) {
      rule(to(next));
    } else {
      write_prefixes("-d", scope_.to_prefixes, to(next));
    }
  }

  /// The chains by which a forwarded packet comes from its port to `next`.
  void write_selection(std::string_view next) {
    const bool from_anywhere = scope_.from_interfaces.empty() && scope_.from_prefixes.empty();
    chain("dst");
    write_destinations(from_anywhere ? next : "src");
    if (from_anywhere) return;
    chain("src");
    std::vector<std::string> interfaces = scope_.from_interfaces;
    std::ranges::sort(interfaces);
    interfaces.erase(std::ranges::unique(interfaces).begin(), interfaces.end());
    for (const std::string& interface : interfaces) rule(fmt::format("-i {} {}", interface_word(interface), to(next)));
    write_prefixes("-s", scope_.from_prefixes, to(next));
  }

  // --- raw: before conntrack ----------------------------------------------------------------------------------------

  /// In scope and before conntrack: kept out of it, and TPROXY's in mangle.
  void candidate() {
    rule(set_mark(owner_.mark.local_mark()));
    rule("-j CT --notrack");
  }

  void write_raw() {
    owned_table("raw");
    const bool udp_answers_are_tracked = owner_.keeps_udp_port;
    if (inputs_.keeps_source_port) {
      chain("rdv");
      rule(set_mark(owner_.mark.intercept_mark()));
      rule("-j CT --notrack");
    }
    if (udp_answers_are_tracked) {
      chain("ans");
      rule(set_mark(owner_.mark.intercept_mark()));
    }
    if (scope_.forwarded) {
      chain("can");
      if (!closed_ && owner_.heartbeat) rule(heart(false) + " -j RETURN");
      candidate();
      write_selection("can");
    }
    chain("pre");
    if (inputs_.keeps_source_port) {
      rule(fmt::format("-p tcp {} -m socket --transparent {}", kLaterPacket, to("rdv")));
      // conntrack knows the datagrams that errors quote, and firewalls expect it to say so. It has not seen what TCP sent: the
      // quoted packet's protocol, 8 bytes of ICMP further on.
      if (udp_answers_are_tracked) {
        rule(fmt::format("-p {} -m u32 --u32 \"{}\" -m socket --transparent {}", icmp(),
                         is_ipv4() ? "0x0>>0x16&0x3c@0xe&0xff=0x6" : "0x33&0xff=0x6", to("rdv")));
      } else {
        rule(fmt::format("-p {} -m socket --transparent {}", icmp(), to("rdv")));
      }
    }
    if (has_udp()) rule(fmt::format("-p udp -m socket --transparent {}", to(udp_answers_are_tracked ? "ans" : "rdv")));
    rule(mark_match(owner_.mark.bypass_mark()) + " -j RETURN");
    if (scope_.forwarded) {
      if (inputs_.keeps_source_port && !closed_ && has_tcp()) rule(fmt::format("-p tcp {} -j RETURN", kLaterPacket));
      write_ports("dst", inputs_.keeps_source_port && has_tcp(), has_udp());
    }
    jump("PREROUTING", "pre");

    chain("out");
    // Both legs of a flow have one 5-tuple. Of datagrams, only what goes to clients is left out: that has the third mark
    // (answer_mark()), because iptables cannot ask for the socket that sends.
    if (owner_.keeps_udp_port) rule(mark_match(owner_.mark.local_mark()) + " -j CT --notrack");
    if (inputs_.keeps_source_port)
      rule(fmt::format("{}{} -j CT --notrack", owner_.keeps_udp_port ? "-p tcp " : "",
                       mark_match(owner_.mark.bypass_mark())));
    jump("OUTPUT", "out");
  }

  // --- filter: what fail-closed rejects -----------------------------------------------------------------------------

  void write_filter() {
    owned_table("filter");
    if (inputs_.guards_listener) {
      // What is intercepted comes here with our mark; what was dialled to this host comes without. A proxy that dials what was dialled
      // would dial itself.
      chain("grd");
      rule(fmt::format("-p tcp --dport {} -m mark ! --mark 0x{:x}/0x{:x} -j REJECT --reject-with tcp-reset",
                       owner_.listener.value, owner_.mark.intercept, owner_.mark.mask));
      jump("INPUT", "grd");
    }
    if (closed_ && owner_.heartbeat) write_rejections();
  }

  void write_rejections() {
    // The list that the heart beats into exists as soon as a rule names it: before anything is captured.
    chain("lst");
    rule(heart(true));
    chain("rej");
    const std::string marked = mark_match(owner_.mark.local_mark());
    if (has_tcp()) rule(fmt::format("-p tcp {} -j REJECT --reject-with tcp-reset", marked));
    if (has_udp())
      rule(fmt::format("-p udp {} -j REJECT --reject-with {}", marked,
                       is_ipv4() ? "icmp-port-unreachable" : "icmp6-port-unreachable"));
    if (scope_.forwarded) jump("FORWARD", "rej");
    if (scope_.local) jump("INPUT", "rej");
  }

  // --- mangle: what captures ----------------------------------------------------------------------------------------

  void write_mangle() {
    owned_table("mangle");
    // That a rule asks is enough for conntrack to be at work (nf_ct_netns_get() in conntrack_mt_check()), run or not.
    if (inputs_.needs_conntrack) rule("-m conntrack --ctstate NEW");
    if (!inputs_.keeps_source_port || owner_.keeps_udp_port) {
      chain("div");
      rule(set_mark(owner_.mark.intercept_mark()));
      rule("-j ACCEPT");
    }
    if (scope_.forwarded) {
      write_tproxy();
      // Datagrams alone may have been selected in raw already.
      if (!inputs_.keeps_source_port && (has_tcp() || !owner_.keeps_udp_port)) write_selection("tpx");
    }
    if (scope_.local) write_loopback();
    write_prerouting();
    if (scope_.local) write_local_output();
    if (remembers_translated()) {
      chain("rem");
      rule(fmt::format("-p udp {} {}", mark_match(owner_.mark.bypass_mark()), set_connmark(owner_.mark.bypass_mark())));
      jump("OUTPUT", "rem");
    }
  }

  /// IPv4 finds the socket of an answer to a masqueraded datagram by what conntrack knows (nf_sk_lookup_slow_v4), IPv6 does not, and
  /// nothing of iptables' sees every packet behind NAT. So the answers to our translated datagrams are known by their connection.
  [[nodiscard]] bool remembers_translated() const { return owner_.keeps_udp_port && !is_ipv4(); }

  void tproxy(std::string_view protocol) {
    rule(fmt::format("-p {} -j TPROXY --on-port {} --on-ip {} --tproxy-mark 0x{:x}/0x{:x}", protocol,
                     owner_.listener.value, is_ipv4() ? "127.0.0.1" : "::1", owner_.mark.intercept, owner_.mark.mask));
  }
  void tproxy_both() {
    if (has_tcp()) tproxy("tcp");
    if (has_udp()) tproxy("udp");
  }
  /// Fail-closed: filter rejects what has this mark.
  void reject_later() {
    rule(set_mark(owner_.mark.local_mark()));
    rule("-j ACCEPT");
  }

  void write_tproxy() {
    if (owner_.heartbeat && closed_) {
      chain("dead");
      reject_later();
    }
    chain("tpx");
    if (owner_.heartbeat) rule(fmt::format("{} {}", heart(false), closed_ ? to("dead") : "-j RETURN"));
    tproxy_both();
  }

  void write_loopback() {
    chain("lo");
    // It is here by a route that has been chosen, and cannot go on: TPROXY, or INPUT rejects it, or TPROXY drops it.
    if (owner_.heartbeat && closed_) rule(heart(false) + " -j ACCEPT");
    tproxy_both();
  }

  void write_prerouting() {
    chain("pre");
    if (inputs_.keeps_source_port) {
      rule(mark_match(owner_.mark.intercept_mark()) + " -j ACCEPT");
    } else if (has_tcp()) {
      // Not the first packet: a SYN that meets a TIME_WAIT socket must go to TPROXY, which alone knows how to reopen it
      // (nf_tproxy_handle_time_wait4 in net/ipv4/netfilter/nf_tproxy_ipv4.c).
      rule(fmt::format("-p tcp {} -m socket --transparent {}", kLaterPacket, to("div")));
    }
    if (!inputs_.keeps_source_port || owner_.keeps_udp_port) {
      // -m socket leaves a listener on any address out (xt_socket.c), and finds the socket of the packet that an error quotes.
      if (has_udp()) rule(fmt::format("-p udp -m socket --transparent {}", to("div")));
      rule(fmt::format("-p {} -m socket --transparent {}", icmp(), to("div")));
    }
    if (remembers_translated())
      rule(fmt::format("-m conntrack --ctstate SNAT --ctdir REPLY {} {}", connmark_match(owner_.mark.bypass_mark()),
                       to("div")));
    rule(mark_match(owner_.mark.bypass_mark()) + " -j RETURN");
    if (scope_.local) rule(fmt::format("-i lo {} {}", mark_match(owner_.mark.local_mark()), to("lo")));
    if (scope_.forwarded) {
      if (decides_early()) rule(fmt::format("{} {}", mark_match(owner_.mark.local_mark()), to("tpx")));
      if (!inputs_.keeps_source_port) {
        if (!closed_ && has_tcp()) rule(fmt::format("-p tcp {} -j RETURN", kLaterPacket));
        write_ports("dst", has_tcp(), has_udp() && !owner_.keeps_udp_port);
      }
    }
    jump("PREROUTING", "pre");
  }

  // --- mangle OUTPUT: what this host's programs send ----------------------------------------------------------------

  void write_local_output() {
    chain("mrk");
    rule(set_mark(owner_.mark.local_mark()));
    write_remembering();
    write_programs();
    write_local_scope();

    chain("out");
    // Only the privileged can set a mark, and it says that somebody has decided about the packet's way: a VPN's own traffic.
    rule("-m mark ! --mark 0x0 -j RETURN");
    if (owner_.heartbeat && !closed_) rule(heart(false) + " -j RETURN");
    if (has_tcp()) {
      rule(fmt::format("-p tcp {} -m conntrack --ctdir ORIGINAL {} {}", kLaterPacket,
                       connmark_match(owner_.mark.local_mark()), to("mrk")));
      rule(fmt::format("-p tcp {} -j RETURN", kLaterPacket));
    }
    if (has_udp())
      rule(fmt::format("-p udp -m conntrack --ctdir REPLY {} -j RETURN", connmark_match(owner_.mark.bypass_mark())));
    write_ports("lsc", has_tcp(), has_udp());
    jump("OUTPUT", "out");
    if (has_udp()) write_served();

    if (!closed_) return;
    chain("lek");
    // A socket that is bound to an interface is not routed through lo.
    rule(fmt::format("! -o lo {} -j DROP", mark_match(owner_.mark.local_mark())));
    jump("POSTROUTING", "lek");
  }

  /// A datagram does not say whether it is a question or an answer. So we remember whose first datagram came to a socket here, unless on a
  /// port that clients have: somebody outside who guesses the port of a question must not make it pass us by.
  void write_served() {
    chain("in");
    rule(fmt::format("-p udp --dport {}:{} -j RETURN", inputs_.client_ports.first.value,
                     inputs_.client_ports.last.value));
    rule(fmt::format("-p udp {} -m conntrack --ctdir ORIGINAL -m socket --nowildcard {}",
                     mark_match({.value = 0, .mask = owner_.mark.mask}), set_connmark(owner_.mark.bypass_mark())));
    jump("INPUT", "in");
  }

  void write_remembering() {
    chain("kep");
    if (has_tcp()) {
      // What conntrack does not see cannot be remembered.
      rule(fmt::format("-p tcp -m conntrack --ctstate UNTRACKED -j {}", closed_ ? "DROP" : "RETURN"));
      rule("-p tcp " + set_connmark(owner_.mark.local_mark()));
    }
    rule(to("mrk"));
  }

  void write_programs() {
    chain("prg");
    for (const std::string& match : xtables_program_matches(scope_.local->never)) rule(match + " -j RETURN");
    const std::vector<std::string> wanted = xtables_program_matches(scope_.local->only);
    for (const std::string& match : wanted) rule(fmt::format("{} {}", match, to("kep")));
    if (!wanted.empty()) return;
    if (has_tcp()) rule("-p tcp " + to("kep"));
    // Sockets that no program holds are the kernel's own: tunnels.
    if (has_udp()) rule("-p udp -m owner --socket-exists " + to("kep"));
  }

  void write_local_scope() {
    chain("lsc");
    // Another program's, before.
    if (has_tcp()) rule("-p tcp " + set_connmark({.value = 0, .mask = owner_.mark.mask}));
    // The address in the header is only the first stop of such a packet.
    if (!is_ipv4()) rule("-m ipv6header --header ipv6-route --soft " + to("prg"));
    write_destinations("prg");
  }

  const PlanInputs& inputs_;
  const Scope& scope_;
  const Ownership& owner_;
  Family family_;
  std::string instance_;
  bool closed_;
  XtablesRuleset rules_{.family = family_, .tables = {}};
  std::string current_;
};

}  // namespace

unsigned heart_patience_seconds(FailMode fail) {
  // The heart beats every 200 ms. While it is thought to beat and does not, packets are dropped: a second of that is made up for by
  // the client's first retransmission. Fail-closed loses nothing by waiting longer, and gains patience with a busy machine.
  return fail == FailMode::open ? 1 : 2;
}

XtablesRuleset render_xtables(const PlanInputs& inputs, Family family) {
  return RulesetWriter(inputs, family).render();
}

XtablesRuleset render_draining_xtables(const PlanInputs& inputs, Family family) {
  return RulesetWriter(inputs, family).render_draining();
}

}  // namespace limpid
