// See ebpf_policy.h. The other side of these structures is bpf/scope.h.
#include "intercept/ebpf_policy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>

#include "intercept/local_traffic.h"

namespace limpid {
namespace {

constexpr std::string_view kBackend = "--backend ebpf";
constexpr unsigned kMappedBits = 96;
/// ::ffff:0:0/96: so many zeros, then ones.
constexpr unsigned kMappedOnes = 80;

void write_ports(const PortSet& ports, std::span<__u8> bits) {
  for (const PortRange& range : ports.ranges()) {
    for (unsigned port = range.first.value; port <= range.last.value; ++port)
      bits[port / 8] = static_cast<__u8>(bits[port / 8] | 1U << port % 8);
  }
}

PortSet read_ports(std::span<const __u8> bits) {
  const auto holds = [&](unsigned port) { return (unsigned{bits[port / 8]} >> port % 8 & 1U) != 0; };
  PortSet ports;
  for (unsigned port = 1; port <= 65535; ++port) {
    if (!holds(port)) continue;
    unsigned last = port;
    while (last < 65535 && holds(last + 1)) ++last;
    ports.insert({.first = Port{static_cast<std::uint16_t>(port)}, .last = Port{static_cast<std::uint16_t>(last)}});
    port = last;
  }
  return ports;
}

/// ::/0 and the like have ::ffff:0:0/96 in them, which stands for IPv4 in the trie: what is beside it, as networks.
void add_beside_mapped(unsigned length, limpid_role role, std::vector<limpid_network>& networks) {
  for (unsigned bit = length; bit < kMappedBits; ++bit) {
    std::array<std::uint8_t, 16> bytes{};
    for (unsigned i = 0; i <= bit; ++i) {
      const bool is_set = (i >= kMappedOnes) != (i == bit);  // the mapped block's bit, but for the last one
      if (is_set) bytes.at(i / 8) = static_cast<std::uint8_t>(bytes.at(i / 8) | 0x80U >> i % 8);
    }
    limpid_network network{};
    network.prefix_length = LIMPID_NETWORK_BITS + bit + 1;
    network.role = static_cast<__u8>(role);
    std::memcpy(network.address, bytes.data(), bytes.size());
    networks.push_back(network);
  }
}

void add_networks(const std::vector<Prefix>& prefixes, limpid_role role, std::vector<limpid_network>& networks) {
  const auto mapped = IpAddress::from_bytes(Family::ipv6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0});
  for (const Prefix& prefix : prefixes) {
    if (prefix.family() == Family::ipv6 && prefix.length() < kMappedBits && prefix.contains(mapped)) {
      add_beside_mapped(prefix.length(), role, networks);
    } else {
      networks.push_back(network_of(prefix, role));
    }
  }
}

Prefix read_network(const limpid_network& network) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), network.address, bytes.size());
  const IpAddress address = IpAddress::from_bytes(Family::ipv6, bytes).unmapped();
  unsigned length = network.prefix_length - LIMPID_NETWORK_BITS;
  // A network of IPv6 that only begins like a mapped address stays one of IPv6.
  if (address.family() == Family::ipv4 && length >= kMappedBits) {
    length -= kMappedBits;
    if (auto prefix = Prefix::parse(fmt::format("{}/{}", address.to_string(), length))) return *prefix;
  }
  const auto prefix =
      Prefix::parse(fmt::format("{}/{}", IpAddress::from_bytes(Family::ipv6, bytes).to_string(), length));
  return prefix ? *prefix : Prefix::everything(Family::ipv6);
}

std::vector<Prefix> networks_of(const EbpfPolicy& policy, limpid_role role) {
  std::vector<Prefix> prefixes;
  for (const limpid_network& network : policy.networks) {
    if (network.role == role) prefixes.push_back(read_network(network));
  }
  std::ranges::sort(prefixes);
  return prefixes;
}

/// A cgroup's number is that of its directory (kernfs, on 64-bit kernels).
Result<limpid_cgroup> find_cgroup(const std::string& path) {
  struct stat status{};
  if (::stat(("/sys/fs/cgroup/" + path).c_str(), &status) != 0) return system_error(errno, "find cgroup", path);
  return limpid_cgroup{
      .id = status.st_ino, .level = static_cast<__u32>(std::ranges::count(path, '/') + 1), .unused = 0};
}

Status write_programs(const Programs& programs, limpid_programs& written) {
  for (const IdRange& range : programs.users)
    written.users[written.user_count++] = {.first = range.first, .last = range.last};
  for (const std::string& path : programs.cgroups) {
    auto cgroup = find_cgroup(path);
    if (!cgroup) return std::unexpected(cgroup.error());
    written.cgroups[written.cgroup_count++] = *cgroup;
  }
  return {};
}

Status check_programs(const Programs& programs) {
  if (!programs.groups.empty())
    return unsupported("--gid", "",
                       fmt::format("{}: the kernel tells programs the user of a socket, but not its group", kBackend),
                       "choose by --uid or --cgroup, or take another backend");
  if (programs.users.size() > LIMPID_MAX_IDS || programs.cgroups.size() > LIMPID_MAX_CGROUPS)
    return unsupported(
        "--uid, --cgroup", "",
        fmt::format("{}: at most {} ranges of users and {} cgroups", kBackend, LIMPID_MAX_IDS, LIMPID_MAX_CGROUPS),
        "write ranges, or a cgroup that holds the others");
  return {};
}

std::string range_text(const IdRange& range) {
  return range.first == range.last ? fmt::format("{}", range.first) : fmt::format("{}-{}", range.first, range.last);
}

void add_line(std::vector<std::string>& lines, std::string_view key, std::string_view value) {
  lines.push_back(fmt::format("{} {}", key, value));
}

/// All that does not depend on how programs are written.
void add_scope_lines(const EbpfPolicy& encoded, std::vector<std::string>& lines) {
  const limpid_policy& policy = encoded.policy;
  const Scope scope = scope_of(encoded);
  add_line(lines, "listener", fmt::format("{}", policy.listener));
  add_line(lines, "mark", fmt::format("0x{:x}/0x{:x}", policy.mark_intercept, policy.mark_mask));
  add_line(lines, "fail", policy.fail_closed != 0 ? "closed" : "open");
  if (policy.draining != 0) lines.emplace_back("draining");
  if (policy.guards_listener != 0) lines.emplace_back("guards the listener");
  add_line(lines, "families",
           fmt::format("{}{}", scope.ipv4 ? "ipv4" : "", scope.ipv6 ? (scope.ipv4 ? ",ipv6" : "ipv6") : ""));
  if (!scope.tcp.empty()) add_line(lines, "tcp", scope.tcp.to_string());
  if (!scope.udp.empty()) add_line(lines, "udp", scope.udp.to_string());
  add_line(lines, "forwarded", scope.forwarded ? "yes" : "no");
  for (const std::string& name : scope.from_interfaces) add_line(lines, "from", name);
  for (const Prefix& prefix : scope.from_prefixes) add_line(lines, "from", prefix.to_string());
  for (const Prefix& prefix : scope.to_prefixes) add_line(lines, "to", prefix.to_string());
  for (const Prefix& prefix : scope.excluded) add_line(lines, "excluded", prefix.to_string());
  if (scope.local)
    add_line(lines, "local, clients' ports", fmt::format("{}-{}", policy.client_ports_first, policy.client_ports_last));
}

void add_ids(std::string_view key, const limpid_programs& programs, std::vector<std::string>& lines) {
  for (__u32 i = 0; i < std::min<__u32>(programs.user_count, LIMPID_MAX_IDS); ++i)
    add_line(lines, key,
             fmt::format("user {}", range_text({.first = programs.users[i].first, .last = programs.users[i].last})));
  for (__u32 i = 0; i < std::min<__u32>(programs.cgroup_count, LIMPID_MAX_CGROUPS); ++i)
    add_line(lines, key, fmt::format("cgroup {} at level {}", programs.cgroups[i].id, programs.cgroups[i].level));
}

Status encode(const PlanInputs& inputs, EbpfPolicy& encoded) {
  const Scope& scope = inputs.scope;
  const Ownership& owner = inputs.ownership;
  limpid_policy& policy = encoded.policy;
  policy.mark_mask = owner.mark.mask;
  policy.mark_intercept = owner.mark.intercept;
  policy.mark_bypass = owner.mark.bypass;
  policy.listener = owner.listener.value;
  policy.client_ports_first = inputs.client_ports.first.value;
  policy.client_ports_last = inputs.client_ports.last.value;
  policy.fail_closed = inputs.fail == FailMode::closed;
  policy.ipv4 = scope.ipv4;
  policy.ipv6 = scope.ipv6;
  policy.forwarded = scope.forwarded;
  policy.local = scope.local.has_value();
  policy.guards_listener = inputs.guards_listener;
  policy.knows_addresses = owner.keeper == Keeper::process;
  policy.has_destinations = !scope.to_prefixes.empty();
  policy.has_sources = !scope.from_interfaces.empty() || !scope.from_prefixes.empty();
  std::vector<std::string> names = scope.from_interfaces;
  std::ranges::sort(names);
  names.erase(std::ranges::unique(names).begin(), names.end());
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), LIMPID_MAX_INTERFACES); ++i)
    names[i].copy(policy.sources[i], sizeof policy.sources[i] - 1);
  write_ports(scope.tcp, policy.tcp);
  write_ports(scope.udp, policy.udp);
  add_networks(scope.from_prefixes, LIMPID_FROM, encoded.networks);
  add_networks(scope.to_prefixes, LIMPID_TO, encoded.networks);
  add_networks(scope.excluded, LIMPID_EXCLUDED, encoded.networks);
  return {};
}

}  // namespace

limpid_network network_of(const Prefix& prefix, limpid_role role) {
  limpid_network network{};
  std::array<std::uint8_t, 16> bytes = prefix.network().bytes();
  unsigned mapped = 0;
  if (prefix.family() == Family::ipv4) {
    mapped = kMappedBits;
    std::copy_n(bytes.begin(), 4, bytes.begin() + 12);
    std::fill_n(bytes.begin(), 10, std::uint8_t{0});
    bytes[10] = bytes[11] = 0xff;
  }
  network.prefix_length = LIMPID_NETWORK_BITS + mapped + prefix.length();
  network.role = static_cast<__u8>(role);
  std::memcpy(network.address, bytes.data(), bytes.size());
  return network;
}

Status require_ebpf_can(const PlanInputs& inputs) {
  if (inputs.keeps_source_port || inputs.ownership.keeps_udp_port)
    return unsupported(
        "--source", "address+port, prefer-port",
        fmt::format("{}: both legs of a flow would have one 5-tuple, and eBPF cannot keep them out of conntrack",
                    kBackend),
        "--source address or none, or take another backend");
  if (inputs.needs_conntrack)
    return unsupported(
        "--for", "",
        fmt::format(
            "{}: this proxy asks conntrack for the original destination, and eBPF does not put conntrack to work",
            kBackend),
        "take another backend");
  if (inputs.scope.from_interfaces.size() > LIMPID_MAX_INTERFACES)
    return unsupported("--from", "", fmt::format("{}: at most {} interfaces", kBackend, LIMPID_MAX_INTERFACES),
                       "name networks instead");
  if (!inputs.scope.local) return {};
  if (auto checked = check_programs(inputs.scope.local->only); !checked) return checked;
  return check_programs(inputs.scope.local->never);
}

Result<EbpfPolicy> make_ebpf_policy(const PlanInputs& inputs) {
  if (auto able = require_ebpf_can(inputs); !able) return std::unexpected(able.error());
  EbpfPolicy encoded;
  if (auto done = encode(inputs, encoded); !done) return std::unexpected(done.error());
  if (!inputs.scope.local) return encoded;
  if (auto done = write_programs(inputs.scope.local->only, encoded.policy.only); !done)
    return std::unexpected(done.error());
  if (auto done = write_programs(inputs.scope.local->never, encoded.policy.never); !done)
    return std::unexpected(done.error());
  return encoded;
}

std::vector<std::string> to_lines(const EbpfPolicy& policy) {
  std::vector<std::string> lines;
  add_scope_lines(policy, lines);
  add_ids("only", policy.policy.only, lines);
  add_ids("never", policy.policy.never, lines);
  return lines;
}

std::vector<std::string> ebpf_policy_lines(const PlanInputs& inputs) {
  EbpfPolicy encoded;
  std::vector<std::string> lines;
  if (!encode(inputs, encoded)) return lines;
  add_scope_lines(encoded, lines);
  if (!inputs.scope.local) return lines;
  for (const auto& [key, programs] :
       {std::pair{"only", &inputs.scope.local->only}, std::pair{"never", &inputs.scope.local->never}}) {
    for (const IdRange& range : programs->users) add_line(lines, key, fmt::format("user {}", range_text(range)));
    for (const std::string& path : programs->cgroups) add_line(lines, key, fmt::format("cgroup {}", path));
  }
  return lines;
}

Scope scope_of(const EbpfPolicy& encoded) {
  const limpid_policy& policy = encoded.policy;
  Scope scope;
  scope.tcp = read_ports(policy.tcp);
  scope.udp = read_ports(policy.udp);
  scope.forwarded = policy.forwarded != 0;
  scope.ipv4 = policy.ipv4 != 0;
  scope.ipv6 = policy.ipv6 != 0;
  if (policy.local != 0) scope.local = LocalScope{};
  for (const auto& name : policy.sources) {
    const std::string_view text(name, ::strnlen(name, sizeof name));
    if (!text.empty()) scope.from_interfaces.emplace_back(text);
  }
  scope.from_prefixes = networks_of(encoded, LIMPID_FROM);
  scope.to_prefixes = networks_of(encoded, LIMPID_TO);
  scope.excluded = networks_of(encoded, LIMPID_EXCLUDED);
  return scope;
}

}  // namespace limpid
