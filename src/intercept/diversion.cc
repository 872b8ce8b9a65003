// With nftables alone. Builds a Plan whose rules and routes are those of every plan, and whose table is shorter; installs and removes it as
// any other, so that `limpid rules remove --name NAME` finds what a kill left.
#include "intercept/diversion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "intercept/install.h"
#include "intercept/survey.h"

namespace limpid {
namespace {

std::string addresses_rule(const std::vector<IpAddress>& addresses, Family family) {
  std::vector<std::string> wanted;
  for (const IpAddress& address : addresses) {
    if (address.family() == family) wanted.push_back(address.to_string());
  }
  if (wanted.empty()) return {};
  std::ranges::sort(wanted);
  wanted.erase(std::ranges::unique(wanted).begin(), wanted.end());
  return fmt::format("    {} daddr {{ {} }} meta l4proto {{ tcp, udp }} socket transparent 1 jump divert\n",
                     family == Family::ipv4 ? "ip" : "ip6", fmt::join(wanted, ", "));
}

std::string datagram_rules(const DiversionOptions& options, const std::string& set_mark) {
  std::vector<std::string> ports;
  for (const PortRange& range : options.udp.ranges()) {
    ports.push_back(range.first == range.last ? fmt::format("{}", range.first.value)
                                              : fmt::format("{}-{}", range.first.value, range.last.value));
  }
  std::string text = fmt::format(
      "    meta l4proto != udp accept\n"
      "    udp dport != {{ {} }} accept\n"
      "    fib daddr type {{ local, broadcast, anycast, multicast }} accept comment \"meant for this host\"\n",
      fmt::join(ports, ", "));
  // A connected socket of the conversation comes before the listener: nf_tproxy_get_sock_v4 in
  // net/ipv4/netfilter/nf_tproxy_ipv4.c.
  if (options.ipv4) {
    text += fmt::format(
        "    ip daddr 169.254.0.0/16 accept\n"
        "    meta nfproto ipv4 meta l4proto udp tproxy ip to 127.0.0.1:{} {} accept\n",
        options.listener.value, set_mark);
  }
  if (options.ipv6) {
    text += fmt::format(
        "    ip6 daddr fe80::/10 accept\n"
        "    meta nfproto ipv6 meta l4proto udp tproxy ip6 to [::1]:{} {} accept\n",
        options.listener.value, set_mark);
  }
  return text;
}

/// Of a fragmented datagram only the first fragment has ports, so `socket` would divert that one alone. It does not make
/// the kernel reassemble before prerouting; a `tproxy` statement does by its mere presence (nft_tproxy_init in
/// net/netfilter/nft_tproxy.c), also in a chain to which nothing leads.
std::string render_reassembly(const DiversionOptions& options) {
  std::string text = "\n  chain reassembly {\n    comment \"never run: it makes the kernel reassemble fragments\"\n";
  if (options.ipv4) text += "    meta nfproto ipv4 meta l4proto udp tproxy ip to 127.0.0.1:1\n";
  if (options.ipv6) text += "    meta nfproto ipv6 meta l4proto udp tproxy ip6 to [::1]:1\n";
  return text + "  }\n";
}

}  // namespace

std::string render_diversion_table(const DiversionOptions& options, const PlanInputs& inputs) {
  const MarkField& mark = inputs.ownership.mark;
  const std::string set_mark = fmt::format("meta mark set meta mark & 0x{:08x} | 0x{:08x}", ~mark.mask, mark.intercept);
  std::string text = fmt::format("table inet {} {{\n  comment \"{}\"\n", table_name_of(inputs.ownership.name),
                                 inputs.ownership.to_comment());
  // In a chain of its own for the reason that plan.cc gives: `socket wildcard` ends its rule for sockets that are not
  // full ones.
  text += fmt::format(
      "\n  chain divert {{\n"
      "    socket wildcard 1 return comment \"a listener on any address, not the one that is meant\"\n"
      "    {} accept\n"
      "  }}\n",
      set_mark);
  text += render_reassembly(options);
  text += "\n  chain prerouting {\n    type filter hook prerouting priority mangle; policy accept;\n";
  if (options.ipv4) text += addresses_rule(options.addresses, Family::ipv4);
  if (options.ipv6) text += addresses_rule(options.addresses, Family::ipv6);
  if (!options.udp.empty()) text += datagram_rules(options, set_mark);
  return text + "  }\n}\n";
}

struct Diversion::State {
  Plan plan;
  UniqueFd instance_lock;
};

Result<Diversion> Diversion::install(const DiversionOptions& options) {
  auto instance_lock = lock_instance(options.name);
  if (!instance_lock) return std::unexpected(instance_lock.error());
  const auto planning_lock = lock_planning();
  if (!planning_lock) return std::unexpected(planning_lock.error());
  const auto survey = survey_kernel();
  if (!survey) return std::unexpected(survey.error());
  InterceptionOptions whole;
  whole.name = options.name;
  const auto numbers = choose_numbers(*survey, whole);
  if (!numbers) return std::unexpected(numbers.error());

  DiversionOptions present = options;
  present.ipv6 = options.ipv6 && survey->ipv6_available;
  PlanInputs inputs;
  inputs.scope.ipv4 = present.ipv4;
  inputs.scope.ipv6 = present.ipv6;
  inputs.ownership = {.name = options.name,
                      .keeper = Keeper::process,
                      .mark = numbers->mark,
                      .table = numbers->table,
                      .priority = numbers->priority,
                      .listener = options.listener,
                      .sysctls = {}};
  auto state = std::make_unique<State>(State{.plan = make_plan(inputs), .instance_lock = std::move(*instance_lock)});
  state->plan.nft_table = render_diversion_table(present, inputs);
  if (auto checked = check_plan(state->plan); !checked) return std::unexpected(checked.error());
  if (auto installed = install_plan(state->plan); !installed) return std::unexpected(installed.error());
  return Diversion(std::move(state));
}

Diversion::Diversion(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Diversion::Diversion(Diversion&&) noexcept = default;

Diversion& Diversion::operator=(Diversion&& other) noexcept {
  if (this != &other) {
    if (state_) std::ignore = remove();
    state_ = std::move(other.state_);
  }
  return *this;
}

Diversion::~Diversion() {
  if (state_) std::ignore = remove();
}

Status Diversion::remove() {
  if (!state_) return {};
  const std::unique_ptr<State> state = std::move(state_);
  return remove_plan(state->plan);
}

}  // namespace limpid
