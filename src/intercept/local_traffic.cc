// Rules about programs, and the tables that send packets of this host on to where they were going. Called for the plan,
// which stays pure; only require_cgroups() looks at the host.
//
// The path of a packet that a program of this host sends: the output chain gives it the mark `local`, so the kernel
// routes it again, into our table, and delivers it to this host through the loopback interface. There, in prerouting,
// it finds the socket of its flow or the listener. If it finds neither (the flow is older than we are, or nobody
// listens), it is sent on by `dup`, with the mark `bypass`, and its original dropped: a route that has been chosen
// cannot be taken back in prerouting, because ip_rcv_finish() keeps the one that came with a packet through loopback.
// So fail-open needs neither a process nor a memory of flows.
//
// `dup` exists for families ip and ip6 only (nft_dup_ipv4.c, nft_dup_ipv6.c), hence two tables beside the main one.
#include "intercept/local_traffic.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>

namespace limpid {
namespace {

constexpr std::string_view kCgroupRoot =
    "/sys/fs/cgroup/";  // where nft looks: src/datatype.c and src/socket.c of nftables
constexpr std::size_t kLongestCgroup = 200;

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

}  // namespace limpid
