// Theory of operation. The first chain of prerouting and of output sets the trace bit of what it recognises; nf_tables then reports every
// rule of every table that this packet meets. The last chains of input and of postrouting drop the probe: after everybody else's rules, so
// that all of them have been seen, but before conntrack confirms the connection (NF_IP_PRI_CONNTRACK_CONFIRM is INT_MAX), so that none is
// left behind. What the probe makes this host answer (a reset, an ICMP error) is dropped when it leaves, too.
// In postrouting a packet for "lo" goes on: it comes back in prerouting, and ends in input.
#include "explain/probe_table.h"

#include <fmt/format.h>

namespace limpid {
namespace {

constexpr int kFirst = -2147483647;  // one after INT_MIN, which is NF_IP_PRI_FIRST
constexpr int kLast = 2147483646;

std::string_view header_of(Family family) {
  return family == Family::ipv4 ? "ip" : "ip6";
}
std::string_view name_of(Transport transport) {
  return transport == Transport::tcp ? "tcp" : "udp";
}

/// True for the probe alone, whatever NAT has done to it.
std::string cookie_match(const ProbeMarks& probe) {
  if (probe.transport == Transport::tcp) {
    return fmt::format("tcp flags & (fin | syn | rst | ack) == syn tcp sequence {}", probe.cookie);
  }
  return fmt::format("meta l4proto udp @th,64,32 {0} @th,96,32 {0}", probe.cookie);
}

/// And for the probe as it was sent.
std::string probe_match(const ProbeMarks& probe) {
  const std::string_view header = header_of(probe.destination.family());
  const std::string_view transport = name_of(probe.transport);
  std::string match;
  if (probe.source) match += fmt::format("{} saddr {} ", header, probe.source->to_string());
  match += fmt::format("{} daddr {} {} sport {} {} dport {} ", header, probe.destination.address.to_string(), transport,
                       probe.source_port.value, transport, probe.destination.port.value);
  return match + cookie_match(probe);
}

/// An ICMP error that quotes the probe: its ports, and what is behind them (RFC 792; RFC 4443 section 2.4).
std::string error_match(const ProbeMarks& probe) {
  const bool ipv4 = probe.destination.family() == Family::ipv4;
  const unsigned quoted = 8 + (ipv4 ? 20 : 40);  // ICMP's header, the quoted IP header without options
  const unsigned behind = quoted + (probe.transport == Transport::tcp ? 4 : 8);
  const std::uint32_t ports = (std::uint32_t{probe.source_port.value} << 16U) | probe.destination.port.value;
  return fmt::format("meta l4proto {} @th,{},32 {} @th,{},32 {}", ipv4 ? "icmp" : "ipv6-icmp", quoted * 8, ports,
                     behind * 8, probe.cookie);
}

/// The reset that answers the SYN: RFC 9293 section 3.5.2 acknowledges its sequence number.
std::string reset_match(const ProbeMarks& probe) {
  return fmt::format("tcp sport {} tcp dport {} tcp flags & rst == rst tcp ackseq {}", probe.destination.port.value,
                     probe.source_port.value, probe.cookie + 1);
}

void add_chain(std::string& text, std::string_view name, std::string_view hook, int priority) {
  text += fmt::format("  chain {} {{\n    type filter hook {} priority {}; policy accept;\n", name, hook, priority);
}

std::string opening(std::string_view table, std::string_view verb, int pid) {
  return fmt::format("{}table inet {} {{\n  comment \"limpid {}, pid {}: makes packets visible; may be deleted\"\n",
                     render_table_removal(table), table, verb, pid);
}

}  // namespace

std::string render_table_removal(std::string_view table) {
  return fmt::format("table inet {0}\ndelete table inet {0}\n", table);
}

std::string render_explain_table(const ProbeMarks& probe, int pid) {
  const std::string sent = probe_match(probe);
  const std::string cookie = cookie_match(probe);
  std::string text = opening(kExplainTable, "explain", pid);
  const auto rule = [&text](const std::string& match, std::string_view statement, std::string_view comment) {
    text += fmt::format("    {}{}{}", match, statement.empty() ? "" : " ", statement);
    if (!comment.empty()) text += fmt::format(" comment \"{}\"", comment);
    text += '\n';
  };
  const auto end = [&text] { text += "  }\n"; };
  const auto answers = [&](std::string_view statement, std::string_view comment) {
    if (probe.transport == Transport::tcp) rule(reset_match(probe), statement, comment);
    rule(error_match(probe), statement, comment);
  };

  add_chain(text, kArrivalChain, "prerouting", kFirst);
  rule(cookie, "meta nftrace set 1", "");
  rule(sent + " fib daddr type local", "", kToThisHost);
  end();
  add_chain(text, kSendingChain, "output", kFirst);
  rule(cookie, "meta nftrace set 1", "");
  rule(sent + " fib daddr type local", "", kToThisHost);
  answers("meta nftrace set 1", "");
  end();
  add_chain(text, kDeliveryChain, "input", kLast);
  rule(cookie + " socket transparent 0-1", "", kHasSocket);
  rule(cookie, "drop", kEndsHere);
  end();
  add_chain(text, kDepartureChain, "postrouting", kLast);
  rule(cookie + " oifname != \"lo\"", "drop", kEndsHere);
  answers("drop", kItsAnswer);
  end();
  return text + "}\n";
}

std::string render_trace_table(const TraceSelection& selection, int pid) {
  const std::string_view transport = name_of(selection.transport);
  const auto match = [&](bool answers) {
    std::string text = fmt::format("meta l4proto {}", transport);
    const auto address = [&](const std::optional<IpAddress>& value, bool source) {
      if (value) {
        text += fmt::format(" {} {} {}", header_of(value->family()), source != answers ? "saddr" : "daddr",
                            value->to_string());
      }
    };
    const auto port = [&](const std::optional<Port>& value, bool source) {
      if (value) text += fmt::format(" {} {} {}", transport, source != answers ? "sport" : "dport", value->value);
    };
    address(selection.source, true);
    address(selection.destination, false);
    port(selection.source_port, true);
    port(selection.destination_port, false);
    return text + " meta nftrace set 1\n";
  };
  std::string text = opening(kTraceTable, "trace", pid);
  for (const auto& [chain, hook] : {std::pair{kArrivalChain, "prerouting"}, std::pair{kSendingChain, "output"}}) {
    add_chain(text, chain, hook, kFirst);
    text += "    " + match(false) + "    " + match(true) + "  }\n";
  }
  // Without rules: that a traced packet has come to their end is reported.
  for (const auto& [chain, hook] : {std::pair{kDeliveryChain, "input"}, std::pair{kDepartureChain, "postrouting"}}) {
    add_chain(text, chain, hook, kLast);
    text += "  }\n";
  }
  return text + "}\n";
}

}  // namespace limpid
