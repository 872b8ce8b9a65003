// See evidence.h. The names of drop reasons are those of include/net/dropreason-core.h.
#include "explain/evidence.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <ranges>
#include <sstream>
#include <system_error>

#include "base/file_text.h"
#include "base/process.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

bool counts_drops(std::string_view name) {
  constexpr std::array<std::string_view, 16> kNames = {
      "Ip InAddrErrors",  "Ip InHdrErrors",  "Ip OutNoRoutes",   "Ip InUnknownProtos",
      "Ip InDiscards",    "Ip OutDiscards",  "IpExt InNoRoutes", "TcpExt IPReversePathFilter",
      "TcpExt ArpFilter", "Ip6 InHdrErrors", "Ip6 InNoRoutes",   "Ip6 InAddrErrors",
      "Ip6 InDiscards",   "Ip6 OutNoRoutes", "Ip6 OutDiscards",  "Ip6 InUnknownProtos"};
  return std::ranges::find(kNames, name) != kNames.end();
}

std::optional<int> read_number(const std::string& key) {
  const auto text = read_sysctl(key);
  int number = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), number).ec != std::errc{})
    return std::nullopt;
  return number;
}

/// sysctl(8) writes the dots of an interface's name as slashes.
std::string setting(Family family, std::string interface, std::string_view name) {
  std::ranges::replace(interface, '.', '/');
  return fmt::format("net.{}.conf.{}.{}", family == Family::ipv4 ? "ipv4" : "ipv6", interface, name);
}

bool has_reason(const Evidence& evidence, std::string_view reason) {
  return std::ranges::find(evidence.drop_reasons, reason) != evidence.drop_reasons.end();
}

std::string by_rp_filter(const Walk& walk, const Evidence& evidence) {
  std::string text = fmt::format("the reverse path filter of {}", evidence.interface);
  if (evidence.rp_filter && evidence.rp_filter_all) {
    text += fmt::format(" (net.ipv4.conf.{}.rp_filter={}, all={}: the larger counts)", evidence.interface,
                        *evidence.rp_filter, *evidence.rp_filter_all);
  }
  const std::string source = walk.last ? walk.last->source.address.to_string() : "its source";
  if (evidence.way_back && evidence.way_back->kind == RouteKind::unicast &&
      evidence.way_back->device != evidence.interface) {
    text += fmt::format(": the way back to {} is {}", source, evidence.way_back->device);
  } else if (evidence.way_back && evidence.way_back->kind == RouteKind::refused) {
    text += fmt::format(": there is no way back to {}", source);
  } else {
    text += fmt::format(": the way back to {} is another", source);
  }
  return text;
}

bool is_refused_with(const std::optional<RouteAnswer>& answer, int error) {
  return answer && answer->kind == RouteKind::refused && answer->error == error;
}

std::string by_routing(const Walk& walk, const Evidence& evidence) {
  const std::string destination = walk.last ? walk.last->destination.address.to_string() : "its destination";
  if (is_refused_with(evidence.route_as_sent, EACCES) || is_refused_with(evidence.route, EACCES)) {
    return fmt::format("the route to {} is `prohibit`", destination);
  }
  if (is_refused_with(evidence.route_as_sent, EHOSTUNREACH))
    return fmt::format("the route to {} is `unreachable`", destination);
  if (is_refused_with(evidence.route_as_sent, EINVAL))
    return fmt::format("the route to {} is `blackhole`", destination);
  if (has_reason(evidence, "IP_INNOROUTES") || has_reason(evidence, "IP_OUTNOROUTES") ||
      is_refused_with(evidence.route, ENETUNREACH) || is_refused_with(evidence.route_as_sent, ENETUNREACH)) {
    return fmt::format("no route to {}", destination);
  }
  return {};
}

/// __fib_validate_source() then finds that every address is this host's (net/ipv4/fib_frontend.c).
bool is_validated_by_mark(const Walk& walk, const Evidence& evidence) {
  const bool is_own = evidence.way_back && evidence.way_back->kind == RouteKind::local;
  const bool looks_so = evidence.drop_reasons.empty() && is_refused_with(evidence.route, EINVAL);
  return walk.mark != 0 && evidence.src_valid_mark.value_or(0) != 0 && !is_own &&
         (has_reason(evidence, "IP_LOCAL_SOURCE") || looks_so);
}

std::string by_source(const Walk& walk, const Evidence& evidence) {
  const std::string source = walk.last ? walk.last->source.address.to_string() : "its source";
  if (is_validated_by_mark(walk, evidence)) {
    return fmt::format(
        "source validation: with net.ipv4.conf.*.src_valid_mark=1 it looks up the way back to {} by the packet's mark "
        "{:#x}, and finds the local route",
        source, walk.mark);
  }
  // IPv6 has no such check.
  const bool looks_so = evidence.drop_reasons.empty() && walk.last && walk.last->source.family() == Family::ipv4 &&
                        evidence.way_back && evidence.way_back->kind == RouteKind::local && !evidence.interface.empty();
  if (has_reason(evidence, "IP_LOCAL_SOURCE") || looks_so) {
    return fmt::format("a martian source: {} is an address of this host's own, and nobody else may use it", source);
  }
  if (has_reason(evidence, "IP_INVALID_SOURCE")) return fmt::format("a martian source: no host has {}", source);
  if (has_reason(evidence, "IP_LOCALNET")) return "a martian: an address of 127.0.0.0/8 on the network";
  return {};
}

std::string reasons_of(const Evidence& evidence) {
  std::string text;
  for (const std::string& reason : evidence.drop_reasons) text += (text.empty() ? "" : ", ") + reason;
  return text;
}

}  // namespace

DropCounters parse_paired_counters(std::string_view text) {
  DropCounters counters;
  std::string names;
  std::string line;
  std::istringstream lines{std::string(text)};
  while (std::getline(lines, names) && std::getline(lines, line)) {
    std::istringstream keys(names);
    std::istringstream values(line);
    std::string group;
    std::string same;
    if (!(keys >> group) || !(values >> same) || group != same || group.size() < 2) continue;
    group.pop_back();  // the colon
    std::string key;
    std::string value;
    while (keys >> key && values >> value) {
      std::uint64_t number = 0;
      std::from_chars(value.data(), value.data() + value.size(), number);
      const std::string name = fmt::format("{} {}", group, key);
      if (counts_drops(name)) counters[name] = number;
    }
  }
  return counters;
}

DropCounters read_drop_counters() {
  DropCounters counters = parse_paired_counters(read_text("/proc/thread-self/net/snmp"));
  counters.merge(parse_paired_counters(read_text("/proc/thread-self/net/netstat")));
  std::istringstream lines(read_text("/proc/thread-self/net/snmp6"));
  std::string key;
  std::uint64_t number = 0;
  while (lines >> key >> number) {
    if (!key.starts_with("Ip6")) continue;
    const std::string name = "Ip6 " + key.substr(3);
    if (counts_drops(name)) counters[name] = number;
  }
  return counters;
}

DropCounters rise(const DropCounters& before, const DropCounters& after) {
  DropCounters risen;
  for (const auto& [name, number] : after) {
    const auto old = before.find(name);
    if (old != before.end() && number > old->second) risen[name] = number - old->second;
  }
  return risen;
}

std::vector<std::string> parse_legacy_tables(std::string_view text) {
  std::vector<std::string> tables;
  std::string table;
  bool has_rules = false;
  for (const auto part : std::views::split(text, '\n')) {
    const std::string_view line(part.begin(), part.end());
    if (line.starts_with('*')) {
      table = line.substr(1);
      has_rules = false;
    } else if (line.starts_with("-A ") || (line.starts_with(':') && line.find(" DROP ") != std::string_view::npos)) {
      has_rules = true;
    } else if (line == "COMMIT" && has_rules) {
      tables.push_back(table);
    }
  }
  return tables;
}

std::string find_legacy_tables() {
  std::string found;
  for (const bool ipv6 : {false, true}) {
    const std::string names = read_text(fmt::format("/proc/thread-self/net/{}_tables_names", ipv6 ? "ip6" : "ip"));
    if (names.empty()) continue;
    std::vector<std::string> tables;
    const auto program = find_system_program(ipv6 ? "ip6tables-legacy-save" : "iptables-legacy-save", "iptables");
    const auto output =
        program ? run_process(std::array<std::string, 1>{*program}, {}) : std::unexpected(program.error());
    if (output && output->exit_status == 0) {
      tables = parse_legacy_tables(output->standard_output);
    } else {
      // Who cannot be asked may have rules.
      std::istringstream words(names);
      tables.assign(std::istream_iterator<std::string>(words), {});
    }
    for (const std::string& table : tables)
      found += fmt::format("{}{}{}", found.empty() ? "" : ", ", table, ipv6 ? " (IPv6)" : "");
  }
  return found;
}

void gather_evidence(const Walk& walk, const std::optional<std::uint32_t>& user, Evidence& evidence) {
  if (!walk.last) return;
  const Family family = walk.last->destination.family();
  evidence.interface = walk.arrived_at;
  auto socket = RouteSocket::open();
  if (socket) {
    const auto ask = [&](const RouteQuestion& question) -> std::optional<RouteAnswer> {
      auto answer = socket->look_up(question);
      return answer ? std::optional(*answer) : std::nullopt;
    };
    const IpAddress& to = walk.last->destination.address;
    const IpAddress& from = walk.first->source.address;  // before a NAT of postrouting
    const std::uint32_t mark = evidence.interface.empty() ? walk.sent_mark : walk.mark;
    evidence.route_as_sent = ask({.destination = to, .source = {}, .input_interface = {}, .mark = mark, .user = user});
    evidence.route = evidence.interface.empty() ? evidence.route_as_sent
                                                : ask({.destination = to,
                                                       .source = from,
                                                       .input_interface = evidence.interface,
                                                       .mark = walk.mark,
                                                       .user = {}});
    evidence.way_back = ask({.destination = from, .source = {}, .input_interface = {}, .mark = 0, .user = {}});
  }
  if (evidence.interface.empty()) return;
  evidence.forwarding = read_number(setting(family, evidence.interface, "forwarding"));
  if (family == Family::ipv6) {
    // Linux forwards IPv6 only where it does so everywhere (ip6_forward).
    if (read_number(setting(family, "all", "forwarding")) == 0) evidence.forwarding = 0;
    return;
  }
  evidence.rp_filter_all = read_number(setting(family, "all", "rp_filter"));
  evidence.rp_filter = read_number(setting(family, evidence.interface, "rp_filter"));
  evidence.src_valid_mark = std::max(read_number(setting(family, "all", "src_valid_mark")),
                                     read_number(setting(family, evidence.interface, "src_valid_mark")));
}

std::string explain_loss(const Walk& walk, const Evidence& evidence) {
  const auto with_proof = [&](std::string text) {
    const std::string reasons = reasons_of(evidence);
    if (!reasons.empty()) text += fmt::format(" (the kernel says {})", reasons);
    return text;
  };
  if (has_reason(evidence, "IP_RPFILTER")) return with_proof(by_rp_filter(walk, evidence));
  if (auto martian = by_source(walk, evidence); !martian.empty()) return with_proof(std::move(martian));
  if (auto routing = by_routing(walk, evidence); !routing.empty()) return with_proof(std::move(routing));
  const bool forwarded = !evidence.route || evidence.route->kind != RouteKind::local;
  if (!evidence.interface.empty() && evidence.forwarding == 0 && forwarded) {
    const bool ipv6 = walk.last && walk.last->destination.family() == Family::ipv6;
    return with_proof(fmt::format("forwarding is off (sysctl -w {})",
                                  ipv6 ? "net.ipv6.conf.all.forwarding=1" : "net.ipv4.ip_forward=1"));
  }
  if (evidence.counters.contains("TcpExt IPReversePathFilter") && evidence.drop_reasons.empty()) {
    return by_rp_filter(walk, evidence);
  }
  if (has_reason(evidence, "NETFILTER_DROP") && !evidence.legacy_tables.empty()) {
    return with_proof(fmt::format("a netfilter hook that nftables cannot trace, probably iptables-legacy (tables {})",
                                  evidence.legacy_tables));
  }
  if (has_reason(evidence, "NETFILTER_DROP")) return with_proof("a netfilter hook that nftables cannot trace");
  if (has_reason(evidence, "TC_INGRESS")) return with_proof("a tc filter at the interface");
  if (has_reason(evidence, "XDP")) return with_proof("an XDP program at the interface");
  if (has_reason(evidence, "IPV6DISABLED")) return with_proof("IPv6 is disabled on the interface");
  if (!evidence.drop_reasons.empty()) return with_proof("the kernel's own decision");
  std::string text = walk.last_hook.empty()
                         ? "before any hook of netfilter"
                         : fmt::format("behind {}, for a reason that the kernel did not tell", walk.last_hook);
  for (const auto& [name, number] : evidence.counters) text += fmt::format("; {} rose by {}", name, number);
  return text;
}

std::string describe(const RouteAnswer& answer) {
  switch (answer.kind) {
    case RouteKind::unicast:
      return fmt::format("by {}{} (table {})", answer.device,
                         answer.gateway ? " to " + answer.gateway->to_string() : std::string(), answer.table.value);
    case RouteKind::local: return fmt::format("delivered to this host (table {})", answer.table.value);
    case RouteKind::many: return fmt::format("broadcast or multicast (table {})", answer.table.value);
    case RouteKind::refused: return fmt::format("refused: {}", std::generic_category().message(answer.error));
  }
  return {};
}

}  // namespace limpid
