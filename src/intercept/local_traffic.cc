// Rules about programs, and the tables that send packets of this host on to where they were going. Called for the plan,
// which stays pure; only require_cgroups() and render_remembered() look at the host.
//
// The path of a packet that a program of this host sends: the output chain gives it the mark `local`, so the kernel
// routes it again, into our table, and delivers it to this host through the loopback interface. There, in prerouting,
// it finds the socket of its flow or the listener. If it finds neither (nobody listens), it is rejected, or sent on by
// `dup`, with the mark `bypass`, and its original dropped: a route that has been chosen cannot be taken back in
// prerouting, because ip_rcv_finish() keeps the one that came with a packet through loopback.
//
// Which connections are taken is decided at their first packet, and remembered in a set: later packets may have no
// owner any more (the program has closed its socket), and those of connections that are older, or that somebody outside
// has opened to a server here, look the same. Nothing but what was taken leaves its way.
//
// `dup` exists for families ip and ip6 only (nft_dup_ipv4.c, nft_dup_ipv6.c), hence two tables beside the main one.
#include "intercept/local_traffic.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "intercept/nft.h"

namespace limpid {
namespace {

constexpr std::string_view kCgroupRoot =
    "/sys/fs/cgroup/";  // where nft looks: src/datatype.c and src/socket.c of nftables
constexpr std::size_t kLongestCgroup = 200;
/// Connections, and clients of UDP servers here, for each family: some 200 bytes each.
constexpr std::size_t kMostRemembered = 262144;

void add_id_matches(std::string_view key, const std::vector<IdRange>& ranges, std::vector<std::string>& matches) {
  std::vector<std::uint32_t> single;
  for (const IdRange& range : ranges) {
    if (range.first == range.last) single.push_back(range.first);
  }
  if (!single.empty()) matches.push_back(fmt::format("meta {} {{ {} }}", key, fmt::join(single, ", ")));
  for (const IdRange& range : ranges) {
    if (range.first != range.last) matches.push_back(fmt::format("meta {} {}-{}", key, range.first, range.last));
  }
}

/// A connection's 4-tuple, as its first packet has it.
std::string flow_key(Family family) {
  return fmt::format("{0} saddr . tcp sport . {0} daddr . tcp dport", nft_header(family));
}

/// How long a silent connection is remembered. `limpid run` probes silent ones every five minutes (keepalive), which makes
/// the program's side send; other proxies may not: then as long as connections may be silent (RFC 5382, REQ-5).
std::string_view flow_timeout(Keeper keeper) {
  return keeper == Keeper::process ? "20m" : "130m";
}

void add_dynamic_set(TableWriter& writer, std::string_view name, Family family, std::string_view type,
                     std::string_view timeout) {
  writer.line(0, "");
  writer.line(1, fmt::format("set {}_{} {{", name, nft_family(family)));
  writer.line(2, fmt::format("type {}", type));
  writer.line(2, fmt::format("size {}", kMostRemembered));
  writer.line(2, "flags dynamic,timeout");
  writer.line(2, fmt::format("timeout {}", timeout));
  writer.line(1, "}");
}

void add_sets(TableWriter& writer) {
  const PlanInputs& inputs = writer.inputs();
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family)) continue;
    const std::string address = fmt::format("{}_addr", nft_family(family));
    if (!inputs.scope.tcp.empty()) {
      add_dynamic_set(writer, "flows", family, fmt::format("{0} . inet_service . {0} . inet_service", address),
                      flow_timeout(inputs.ownership.keeper));
    }
    if (!inputs.scope.udp.empty()) {
      add_dynamic_set(writer, "served", family, fmt::format("{} . inet_service . inet_service", address), "5m");
    }
  }
}

/// A datagram does not say whether it is a question or an answer. So we remember who has written to a socket here, unless on a
/// port that clients have: somebody outside who guesses the port of a question must not make it pass us by.
void add_input(TableWriter& writer) {
  const PlanInputs& inputs = writer.inputs();
  writer.begin_chain("local_input");
  writer.line(2, "type filter hook input priority mangle; policy accept;");
  writer.rule(fmt::format("meta mark & 0x{:08x} != 0x00000000 accept", inputs.ownership.mark.mask), "our own sockets");
  const PortRange& clients = inputs.client_ports;
  writer.line(2, fmt::format("udp dport {}-{} accept", clients.first.value, clients.last.value));
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family)) continue;
    writer.add_port_rules(fmt::format("meta nfproto {} udp", nft_family(family)), "sport", inputs.scope.udp,
                          fmt::format("socket wildcard 0-1 update @served_{} {{ {} saddr . udp sport . udp dport }}",
                                      nft_family(family), nft_header(family)));
  }
  writer.end_chain();
}

/// A route chain: the kernel looks for another route when the mark has changed.
void add_output(TableWriter& writer) {
  const PlanInputs& inputs = writer.inputs();
  writer.begin_chain("local_output");
  writer.line(2, "type route hook output priority mangle; policy accept;");
  // Only the privileged can set a mark, and it says that somebody has decided about the packet's way: a VPN's own traffic.
  writer.rule("meta mark != 0x00000000 accept", "our own sockets, and what is marked by others");
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family)) continue;
    if (!inputs.scope.udp.empty()) {
      writer.rule(
          fmt::format("{} daddr . udp dport . udp sport @served_{} accept", nft_header(family), nft_family(family)),
          "answers of servers here");
    }
    if (!inputs.scope.tcp.empty()) {
      writer.line(2, fmt::format("{0} {1} @flows_{2} update @flows_{2} {{ {1} }} goto local_mark", kNotSyn,
                                 flow_key(family), nft_family(family)));
    }
  }
  writer.rule(fmt::format("{} accept", kNotSyn), "older connections, and those of servers here");
  writer.add_selection_by_port("local_scope");
  writer.end_chain();
}

void add_scope(TableWriter& writer) {
  const Scope& scope = writer.inputs().scope;
  writer.begin_chain("local_scope");
  for (const Family family : kFamilies) {
    if (!in_scope(scope, family) || scope.tcp.empty()) continue;
    writer.rule(fmt::format("meta nfproto {0} meta l4proto tcp delete @flows_{0} {{ {1} }}", nft_family(family),
                            flow_key(family)),
                "another program's, before");
  }
  // The address in the header is only the first stop of such a packet.
  if (scope.ipv6) writer.line(2, "exthdr rt exists goto programs");
  writer.add_destinations("programs");
  if (scope.to_prefixes.empty()) writer.line(2, "goto programs");
  writer.end_chain();
}

void add_programs(TableWriter& writer) {
  const Scope& scope = writer.inputs().scope;
  writer.begin_chain("programs");
  for (const std::string& match : program_matches(scope.local->never)) writer.line(2, match + " accept");
  const std::vector<std::string> wanted = program_matches(scope.local->only);
  for (const std::string& match : wanted) writer.line(2, match + " goto local_first");
  if (wanted.empty()) {
    if (!scope.tcp.empty()) writer.line(2, "meta l4proto tcp goto local_first");
    // Sockets that no program holds are the kernel's own.
    if (!scope.udp.empty()) {
      writer.rule("meta l4proto udp meta skuid 0-4294967295 goto local_first", "not the kernel's tunnels");
    }
  }
  writer.end_chain();
}

void add_marks(TableWriter& writer) {
  const PlanInputs& inputs = writer.inputs();
  writer.begin_chain("local_first");
  for (const Family family : kFamilies) {
    if (!in_scope(inputs.scope, family) || inputs.scope.tcp.empty()) continue;
    writer.line(2, fmt::format("meta nfproto {0} meta l4proto tcp update @flows_{0} {{ {1} }} goto local_mark",
                               nft_family(family), flow_key(family)));
  }
  if (!inputs.scope.udp.empty()) writer.line(2, "meta l4proto udp goto local_mark");
  if (inputs.fail == FailMode::closed && !inputs.scope.tcp.empty()) {
    writer.rule("meta l4proto tcp reject with tcp reset", "fail-closed: more connections than can be remembered");
  }
  writer.end_chain();

  writer.begin_chain("local_mark");
  writer.rule(fmt::format("meta mark set meta mark | 0x{:08x} accept", inputs.ownership.mark.mask),
              "routed again: to this host, through lo");
  writer.end_chain();

  if (inputs.fail == FailMode::open) return;
  writer.begin_chain("local_leak");
  writer.line(2, "type filter hook postrouting priority mangle; policy accept;");
  writer.rule(fmt::format("oifname != \"lo\" {} drop", writer.has_local_mark()),
              "fail-closed: a socket that is bound to an interface");
  writer.end_chain();
}

}  // namespace

Status validate_cgroup(std::string_view path) {
  const bool clean = std::ranges::all_of(path, [](char c) { return c > ' ' && c <= '~' && c != '"'; });
  const bool relative = !path.empty() && path.front() != '/' && path.back() != '/' &&
                        path.find("//") == std::string_view::npos && path != "." && path != ".." &&
                        !path.starts_with("../") && !path.ends_with("/..") &&
                        path.find("/../") == std::string_view::npos;
  if (clean && relative && path.size() <= kLongestCgroup) return {};
  return usage_error("--cgroup", "", "not the path of a cgroup",
                     "write it as systemd-cgls or /proc/PID/cgroup shows it, for example user.slice/user-1000.slice");
}

std::unexpected<Error> refuse_kept_port(std::string_view typed) {
  return usage_error(
      "--source", typed, "a program of this host holds its own port, so the proxy cannot use it as well",
      "--source address or none with --local; another instance, under another --name, for forwarded traffic");
}

Status require_cgroups(const LocalScope& scope) {
  for (const Programs* programs : {&scope.only, &scope.never}) {
    for (const std::string& cgroup : programs->cgroups) {
      struct stat status{};
      if (::stat((std::string(kCgroupRoot) + cgroup).c_str(), &status) == 0 && S_ISDIR(status.st_mode)) continue;
      return failure("find", fmt::format("cgroup {}", cgroup), fmt::format("there is no {}{}", kCgroupRoot, cgroup),
                     "start what belongs in it first; cgroup v2 must be mounted on /sys/fs/cgroup");
    }
  }
  return {};
}

std::vector<std::string> program_matches(const Programs& programs) {
  std::vector<std::string> matches;
  add_id_matches("skuid", programs.users, matches);
  add_id_matches("skgid", programs.groups, matches);
  for (const std::string& cgroup : programs.cgroups) {
    matches.push_back(fmt::format("socket cgroupv2 level {} \"{}\"", std::ranges::count(cgroup, '/') + 1, cgroup));
  }
  return matches;
}

void write_local_chains(TableWriter& writer) {
  add_sets(writer);
  if (!writer.inputs().scope.udp.empty()) add_input(writer);
  add_output(writer);
  add_scope(writer);
  add_programs(writer);
  add_marks(writer);
}

std::string render_onward_table(const Ownership& ownership, Family family) {
  const MarkField& mark = ownership.mark;
  const std::string_view header = family == Family::ipv4 ? "ip" : "ip6";
  return fmt::format(
      "table {0} {1} {{\n"
      "  comment \"{2}\"\n"
      "\n"
      "  chain onward {{\n"
      "    type filter hook prerouting priority mangle + 1; policy accept;\n"
      "    iifname \"lo\" meta mark & 0x{3:08x} == 0x{3:08x} meta mark set meta mark & 0x{4:08x} | 0x{5:08x} dup to "
      "{0} "
      "daddr drop comment \"not intercepted after all\"\n"
      "  }}\n"
      "}}\n",
      header, table_name_of(ownership.name), ownership.to_comment(), mark.mask, ~mark.mask, mark.bypass);
}

std::string render_remembered(const Plan& plan) {
  const Scope& scope = plan.inputs.scope;
  if (!scope.local) return {};
  const NftTableName table{.family = "inet", .name = plan.table_name};
  std::string commands;
  for (const Family family : kFamilies) {
    if (!in_scope(scope, family)) continue;
    std::vector<std::string> sets;
    if (!scope.tcp.empty()) sets.push_back(fmt::format("flows_{}", nft_family(family)));
    if (!scope.udp.empty()) sets.push_back(fmt::format("served_{}", nft_family(family)));
    for (const std::string& set : sets) {
      const std::string elements = list_nft_elements(table, set);
      if (!elements.empty()) commands += fmt::format("add element inet {} {} {{{}}}\n", plan.table_name, set, elements);
    }
  }
  return commands;
}

}  // namespace limpid
