// Reads the flags that say what to intercept. Every mistake becomes one line that names the flag, what was typed and
// what would be right. Looks at nothing but the flags: whether an interface exists is the survey's business, since
// interfaces come and go.
#include "cli/interception_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "cli/flag_values.h"
#include "intercept/backend.h"
#include "intercept/local_traffic.h"
#include "intercept/plan.h"
#include "net/interface_name.h"

namespace limpid {
namespace {

/// Whether somebody who typed this meant a network: a slash, an IPv4 address or the beginning of one, or two colons. A
/// network with a typing error in it must not become the name of an interface that does not exist.
bool means_network(std::string_view item) {
  const bool only_digits_and_dots = item.find_first_not_of("0123456789.") == std::string_view::npos;
  return item.find('/') != std::string_view::npos ||
         (only_digits_and_dots && item.find('.') != std::string_view::npos) || std::ranges::count(item, ':') >= 2;
}

Result<std::vector<Prefix>> parse_networks(std::string_view flag, const std::vector<std::string>& values) {
  auto items = items_of(flag, values);
  if (!items) return std::unexpected(items.error());
  std::vector<Prefix> networks;
  for (const std::string& item : *items) {
    auto network = Prefix::parse(item);
    if (!network) return wrong(flag, item, network.error());
    networks.push_back(*network);
  }
  return networks;
}

Status parse_from(const std::vector<std::string>& values, Scope& scope) {
  auto items = items_of("--from", values);
  if (!items) return std::unexpected(items.error());
  for (const std::string& item : *items) {
    if (means_network(item)) {
      auto network = Prefix::parse(item);
      if (!network) return wrong("--from", item, network.error());
      scope.from_prefixes.push_back(*network);
    } else {
      auto name = validate_interface_name(item);
      if (!name) {
        return wrong("--from", item, fmt::format("neither a network nor an interface name: {}", name.error().cause),
                     "give an interface that `ip link` lists, or a network like 192.0.2.0/24");
      }
      scope.from_interfaces.push_back(*name);
    }
  }
  return {};
}

Result<FailMode> parse_fail(std::string_view typed) {
  if (typed == "open") return FailMode::open;
  if (typed == "closed") return FailMode::closed;
  return wrong("--fail", typed, "not a fail mode", "open: forwarded as usual while nobody listens; closed: rejected");
}

Status parse_families(const InterceptionFlags& flags, Scope& scope) {
  if (flags.ipv4_only && flags.ipv6_only) {
    return usage_error("--ipv4-only --ipv6-only", "", "nothing would be left",
                       "give one of them, or none for both families");
  }
  scope.ipv4 = !flags.ipv6_only;
  scope.ipv6 = !flags.ipv4_only;
  return {};
}

/// A list of networks that selects nothing of the chosen families is a mistake, not a way to switch interception off.
Status require_family(std::string_view flag, const std::vector<Prefix>& networks, const Scope& scope) {
  if (networks.empty()) return {};
  const bool any = std::ranges::any_of(
      networks, [&](const Prefix& p) { return p.family() == Family::ipv4 ? scope.ipv4 : scope.ipv6; });
  if (any) return {};
  const std::string_view other = scope.ipv4 ? "--ipv4-only" : "--ipv6-only";
  return usage_error(flag, networks.front().to_string(), fmt::format("no network of the family that {} leaves", other),
                     fmt::format("leave out {}, or give networks of that family", other));
}

Status parse_ports(std::string_view flag, const std::vector<std::string>& values, PortSet& ports) {
  if (values.empty()) return {};
  const auto items = items_of(flag, values);
  if (!items) return std::unexpected(items.error());
  const std::string text = fmt::format("{}", fmt::join(*items, ","));
  auto parsed = PortSet::parse(text);
  if (!parsed) return wrong(flag, text, parsed.error());
  ports = std::move(*parsed);
  return {};
}

Status parse_scope(const InterceptionFlags& flags, Scope& scope) {
  if (flags.tcp.empty() && flags.udp.empty())
    return usage_error("--tcp", "", "missing", "say which ports to intercept, for example --tcp 80,443 or --udp 53");
  if (auto tcp = parse_ports("--tcp", flags.tcp, scope.tcp); !tcp) return tcp;
  if (auto udp = parse_ports("--udp", flags.udp, scope.udp); !udp) return udp;
  if (auto families = parse_families(flags, scope); !families) return families;
  if (auto from = parse_from(flags.from, scope); !from) return from;
  auto to_networks = parse_networks("--to-net", flags.to_net);
  if (!to_networks) return std::unexpected(to_networks.error());
  scope.to_prefixes = std::move(*to_networks);
  auto excluded = parse_networks("--exclude", flags.exclude);
  if (!excluded) return std::unexpected(excluded.error());
  scope.excluded = std::move(*excluded);
  if (auto local = parse_program_flags(flags.programs, scope); !local) return local;
  if (!scope.forwarded && !flags.from.empty()) {
    return wrong("--from", flags.from.front(), "it chooses among forwarded traffic, which --local-only leaves alone",
                 "leave out one of the two, or choose programs: --uid, --gid, --cgroup");
  }
  if (auto matched = require_family("--to-net", scope.to_prefixes, scope); !matched) return matched;
  if (scope.from_interfaces.empty() && !scope.local) return require_family("--from", scope.from_prefixes, scope);
  return {};
}

Status parse_numbers(const InterceptionFlags& flags, InterceptionOptions& options) {
  if (!flags.listen_port.empty()) {
    auto port = parse_number("--listen-port", flags.listen_port, 1, 65535, "a port");
    if (!port) return std::unexpected(port.error());
    options.listener = Port{static_cast<std::uint16_t>(*port)};
  }
  if (!flags.mark.empty()) {
    constexpr std::string_view kExample = "write VALUE/MASK with two free bits, for example 0x1000000/0x3000000";
    if (flags.mark.find('/') == std::string::npos) return wrong("--mark", flags.mark, "the mask is missing", kExample);
    auto mark = Mark::parse(flags.mark);
    if (!mark) return wrong("--mark", flags.mark, mark.error());
    if (auto field = MarkField::from(*mark); !field) return wrong("--mark", flags.mark, field.error());
    options.mark = *mark;
  }
  if (!flags.table.empty()) {
    auto table =
        parse_number("--table", flags.table, 1, std::numeric_limits<std::uint32_t>::max(), "a routing table's number");
    if (!table) return std::unexpected(table.error());
    if (*table >= 253 && *table <= 255) {
      return wrong("--table", flags.table, "one of the kernel's own tables (default, main, local)",
                   "take another, for example 7676");
    }
    options.table = TableId{*table};
  }
  if (!flags.priority.empty()) {
    // The main table's rule is at 32766; three in a row are needed before it.
    auto priority = parse_number("--priority", flags.priority, 1, 32763, "a place before the main table's rule");
    if (!priority) return std::unexpected(priority.error());
    options.priority = RulePriority{*priority};
  }
  return {};
}

}  // namespace

Result<SourceMode> parse_source(std::string_view typed) {
  constexpr std::array kModes = {SourceMode::none, SourceMode::address, SourceMode::address_and_port,
                                 SourceMode::prefer_port};
  const auto found = std::ranges::find_if(kModes, [&](SourceMode mode) { return to_string(mode) == typed; });
  if (found != kModes.end()) return *found;
  return wrong("--source", typed, "not a source mode", "none, address, address+port or prefer-port");
}

void add_interception_flags(CLI::App& verb, InterceptionFlags& flags) {
  constexpr auto kScope = "What to intercept";
  constexpr auto kHow = "How";
  constexpr auto kNumbers = "Numbers (chosen free of collisions when left out)";
  // One value an occurrence: a list that went on over spaces would swallow what follows.
  const auto add_list = [&](const std::string& name, std::vector<std::string>& values, const std::string& help) {
    return verb.add_option(name, values, help)->allow_extra_args(false)->group(kScope);
  };
  add_list("--tcp", flags.tcp, "Destination ports of connections: 80,443,8000-8100, or all; repeatable")
      ->type_name("PORTS");
  add_list("--udp", flags.udp, "Destination ports of datagrams, written alike")->type_name("PORTS");
  add_list("--from", flags.from, "Only what arrives on this interface, or from this network; repeatable")
      ->type_name("IFACE|CIDR");
  add_list("--to-net", flags.to_net, "Only what goes to this network; repeatable")->type_name("CIDR");
  add_list("--exclude", flags.exclude, "Never what goes to this network; repeatable")->type_name("CIDR");
  verb.add_flag("--ipv4-only", flags.ipv4_only, "Leave IPv6 alone")->group(kScope);
  verb.add_flag("--ipv6-only", flags.ipv6_only, "Leave IPv4 alone")->group(kScope);

  add_program_flags(verb, flags.programs);

  verb.add_option("--source", flags.source,
                  "What the target sees as source: none, address, address+port or prefer-port")
      ->type_name("none|address|address+port|prefer-port")
      ->capture_default_str()
      ->each([&flags](const std::string&) { flags.source_given = true; })
      ->group(kHow);
  verb.add_option("--fail", flags.fail, "While nobody listens: open (forwarded as usual) or closed (rejected)")
      ->type_name("open|closed")
      ->capture_default_str()
      ->group(kHow);
  verb.add_option("--backend", flags.backend, "What makes the kernel intercept (docs/backends.md)")
      ->type_name("auto|nftables|iptables|iptables-nft|iptables-legacy|ebpf")
      ->capture_default_str()
      ->group(kHow);
  verb.add_flag("--enable-forwarding", flags.enable_forwarding, "Switch on IP forwarding, and put it back at the end")
      ->group(kHow);
  verb.add_option("--name", flags.name, "Tags everything that is installed; several instances need several names")
      ->type_name("NAME")
      ->capture_default_str()
      ->group(kHow);

  verb.add_option("--listen-port,--to-port", flags.listen_port, "The proxy's port on 127.0.0.1 and [::1]")
      ->type_name("PORT")
      ->group(kNumbers);
  verb.add_option("--mark", flags.mark, "Packet mark: VALUE/MASK, at least two bits in the mask")
      ->type_name("MARK")
      ->group(kNumbers);
  verb.add_option("--table", flags.table, "Routing table")->type_name("ID")->group(kNumbers);
  verb.add_option("--priority", flags.priority, "First of three priorities for `ip rule`")
      ->type_name("N")
      ->group(kNumbers);
}

Result<InterceptionRequest> parse_interception_flags(const InterceptionFlags& flags) {
  InterceptionRequest request;
  if (auto name = check_instance_name(flags.name); !name) return wrong("--name", flags.name, name.error());
  request.options.name = flags.name;
  if (auto scope = parse_scope(flags, request.options.scope); !scope) return std::unexpected(scope.error());
  request.source_is_default = !flags.source_given;
  auto source = parse_source(flags.source);
  if (!source) return std::unexpected(source.error());
  request.source = *source;
  request.options.keeps_source_port = keeps_port(*source);
  if (request.options.keeps_source_port && request.options.scope.local) return refuse_kept_port(flags.source);
  auto fail = parse_fail(flags.fail);
  if (!fail) return std::unexpected(fail.error());
  request.options.fail = *fail;
  auto backends = parse_backends(flags.backend);
  if (!backends) return std::unexpected(backends.error());
  request.options.backends = std::move(*backends);
  if (auto numbers = parse_numbers(flags, request.options); !numbers) return std::unexpected(numbers.error());
  request.enable_forwarding = flags.enable_forwarding;
  return request;
}

}  // namespace limpid
