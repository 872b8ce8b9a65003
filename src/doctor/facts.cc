// Collects the facts: the survey of the intercept room, everybody's rules, and what /proc says about sockets, limits and
// counters. What belongs to this network namespace is read through /proc/thread-self.
#include "doctor/facts.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "cutthrough/cut_through.h"
#include "doctor/services.h"
#include "intercept/ebpf.h"
#include "intercept/install.h"
#include "intercept/installed_scope.h"
#include "net/namespace.h"
#include "net/port_owner.h"
#include "net/sysctl.h"

namespace limpid::doctor {
namespace {

int number_of(const std::string& key) {
  const auto text = read_sysctl(key);
  int number = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), number);
  return number;
}

std::optional<std::uint64_t> count_of(const std::string& key) {
  const auto text = read_sysctl(key);
  std::uint64_t number = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), number).ec != std::errc{})
    return std::nullopt;
  return number;
}

InterfaceSetting setting_of(const std::string& interface, std::string_view name) {
  return {.all = number_of(fmt::format("net.ipv4.conf.all.{}", name)),
          .own = number_of(fmt::format("net.ipv4.conf.{}.{}", sysctl_name(interface), name))};
}

void collect_interfaces(Facts& facts) {
  for (const LinkInfo& link : facts.survey.links) {
    const bool has_address = std::ranges::any_of(facts.addresses, [&](const AddressInfo& a) {
      return a.link_index == link.index && !a.address.is_link_local();
    });
    facts.interfaces.push_back({.link = link,
                                .rp_filter = setting_of(link.name, "rp_filter"),
                                .src_valid_mark = setting_of(link.name, "src_valid_mark"),
                                .route_localnet = setting_of(link.name, "route_localnet"),
                                .has_address = has_address});
  }
}

void collect_rules(Facts& facts) {
  if (auto ruleset = read_ruleset()) {
    facts.ruleset = std::move(*ruleset);
  } else {
    facts.ruleset_problem = ruleset.error().message();
    facts.ruleset_not_permitted = !facts.may_change_network;
  }
  if (auto pieces = find_xtables()) {
    facts.xtables = std::move(*pieces);
  } else {
    facts.xtables_problem = pieces.error().message();
  }
  if (auto iptables = read_iptables()) {
    facts.iptables = std::move(*iptables);
  } else {
    facts.iptables_problem = iptables.error().message();
    facts.iptables_not_permitted = !facts.may_change_network;
  }
}

/// What the maps say, and the interfaces that lack a program.
void judge_ebpf(const FoundInstallation& found, const Facts& facts, Judged& judged) {
  const auto all = find_ebpf();
  const auto ours =
      all ? std::ranges::find_if(*all, [&](const EbpfInstallation& e) { return e.ownership == found.ownership; })
          : std::vector<EbpfInstallation>::const_iterator();
  if (!all || ours == all->end() || !ours->policy) {
    judged.scope_problem = !all                 ? all.error().message()
                           : ours == all->end() ? "its eBPF programs have just gone"
                                                : "its eBPF programs are of another version of Limpid";
    return;
  }
  judged.scope = scope_of(*ours->policy);
  judged.fail = ours->policy->policy.fail_closed != 0 ? FailMode::closed : FailMode::open;
  judged.draining = ours->policy->policy.draining != 0;
  judged.scope_complete = ours->policy->policy.guards_listener == 0;
  const bool with_loopback = judged.scope.local || ours->policy->policy.guards_listener != 0;
  for (const LinkInfo& link : links_for_programs(facts.survey.links, with_loopback)) {
    for (const TrafficSide side : {TrafficSide::ingress, TrafficSide::egress}) {
      if (side == TrafficSide::egress && (!judged.scope.local || link.name == "lo")) continue;
      const bool there = std::ranges::any_of(
          ours->attachments, [&](const Attachment& a) { return a.link == link.index && a.side == side; });
      if (!there) judged.missing_rules.push_back(fmt::format("the program at {} of {}", to_string(side), link.name));
    }
  }
}

Judged judge_installed(const FoundInstallation& found, const Facts& facts) {
  Judged judged;
  judged.ownership = found.ownership;
  judged.installed = true;
  judged.alive = !lock_instance(found.name).has_value();
  if (judged.alive) judged.processes = read_processes(found.name);
  if (found.ownership.backend == Backend::ebpf) {
    judge_ebpf(found, facts, judged);
    return judged;
  }
  const bool with_nft = found.ownership.backend == Backend::nftables;
  if (with_nft ? !facts.ruleset : !facts.xtables_problem.empty()) {
    judged.scope_problem = with_nft ? facts.ruleset_problem : facts.xtables_problem;
    return judged;
  }
  InstalledScope read = with_nft ? read_installed_scope(*facts.ruleset, table_name_of(found.name))
                                 : read_installed_scope(facts.xtables, found.ownership);
  judged.scope = std::move(read.scope);
  judged.fail = read.fail;
  judged.draining = read.draining;
  judged.scope_complete = read.complete;
  judged.keeps_tcp_port = read.keeps_tcp_port;
  judged.missing_rules = std::move(read.missing);
  return judged;
}

Status collect_judged(Facts& facts, const FactsRequest& request) {
  if (request.planned) {
    Judged judged;
    const auto numbers = choose_numbers(facts.survey, *request.planned);
    if (!numbers) return std::unexpected(numbers.error());
    judged.ownership.name = request.planned->name;
    judged.ownership.mark = numbers->mark;
    judged.ownership.table = numbers->table;
    judged.ownership.priority = numbers->priority;
    judged.ownership.listener = request.planned->listener;
    judged.scope = request.planned->scope;
    judged.fail = request.planned->fail;
    judged.keeps_tcp_port = request.planned->keeps_source_port;
    facts.judged.push_back(std::move(judged));
    return {};
  }
  facts.wanted_name = request.name;
  for (const FoundInstallation& found : facts.survey.installations) {
    if (request.name.empty() || found.name == request.name) facts.judged.push_back(judge_installed(found, facts));
  }
  return {};
}

void collect_cut_through(Facts& facts, const std::string& wanted) {
  const auto found = find_cut_through();
  if (!found) {
    facts.cut_through_problem = found.error().message();
    return;
  }
  for (const std::string& name : *found) {
    if ((wanted.empty() || name == wanted) && lock_instance(name).has_value())
      facts.abandoned_cut_through.push_back(name);
  }
}

void collect_sockets(Facts& facts) {
  auto tcp = server_sockets(Transport::tcp, std::nullopt);
  auto udp = server_sockets(Transport::udp, std::nullopt);
  if (!tcp || !udp) facts.sockets_problem = (tcp ? udp.error() : tcp.error()).message();
  if (tcp) facts.tcp_listeners = std::move(*tcp);
  if (udp) facts.udp_sockets = std::move(*udp);
  for (const Judged& judged : facts.judged) {
    const Port port = judged.ownership.listener;
    std::string owner = find_port_owner(port);
    if (owner.empty()) owner = find_udp_port_owner(port);
    if (!owner.empty()) facts.port_owners[port.value] = std::move(owner);
  }
}

void collect_limits(Facts& facts) {
  const auto used = count_of("net.netfilter.nf_conntrack_count");
  const auto most = count_of("net.netfilter.nf_conntrack_max");
  if (used && most) facts.conntrack = Usage{.used = *used, .most = *most};
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.descriptors = {.used = limit.rlim_max, .most = limit.rlim_cur};
  std::ifstream handles("/proc/sys/fs/file-nr");
  std::uint64_t unused = 0;
  handles >> facts.file_handles.used >> unused >> facts.file_handles.most;
  facts.time_wait = read_time_wait();
  facts.available_memory_kib = read_available_memory_kib();
}

}  // namespace

Result<Facts> collect_facts(const FactsRequest& request) {
  Facts facts;
  facts.may_change_network = has_capability(CAP_NET_ADMIN);
  auto survey = survey_kernel();
  if (!survey) return std::unexpected(survey.error());
  facts.survey = std::move(*survey);
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  auto addresses = socket->addresses();
  if (!addresses) return std::unexpected(addresses.error());
  facts.addresses = std::move(*addresses);
  collect_interfaces(facts);
  collect_rules(facts);
  if (auto judged = collect_judged(facts, request); !judged) return std::unexpected(judged.error());
  collect_cut_through(facts, request.name);
  facts.bridges = find_bridge_netfilter(facts.survey.links);
  facts.strict_ways_out = find_strict_filtering(facts.survey.routes);
  collect_sockets(facts);
  collect_limits(facts);
  facts.unanswered = read_unanswered();
  facts.martian_sources = read_martian_sources();
  facts.reverse_path_drops = read_reverse_path_drops();
  facts.networkd_runs = runs_here("systemd-network");
  facts.networkd_keeps_rules = networkd_keeps_foreign_rules();
  facts.network_manager_runs = runs_here("NetworkManager");
  return facts;
}

bool loopback_is_up(const Facts& facts) {
  return std::ranges::any_of(facts.interfaces, [](const Interface& i) { return i.link.name == "lo" && i.link.up; });
}

bool covers(const Scope& scope, const std::string& interface) {
  if (!scope.forwarded || interface == "lo") return false;
  if (scope.from_interfaces.empty() || !scope.from_prefixes.empty()) return true;
  return std::ranges::find(scope.from_interfaces, interface) != scope.from_interfaces.end();
}

bool is_covered(const Facts& facts, const std::string& interface) {
  return std::ranges::any_of(facts.judged, [&](const Judged& judged) { return covers(judged.scope, interface); });
}

}  // namespace limpid::doctor
