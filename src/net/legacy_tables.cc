// Reads a table's rules as the kernel holds them: IPT_SO_GET_INFO says how large they are, IPT_SO_GET_ENTRIES gives them
// (net/ipv4/netfilter/ip_tables.c; ip6_tables.c is its twin). Each begins with a fixed header, in which only the counters change by
// themselves. Nothing else of them is interpreted.
#include "net/legacy_tables.h"

// With the kernel's <linux/in.h>, and not the C library's <netinet/in.h>, which it excludes.
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace limpid {
namespace {

Result<UniqueFd> open_raw(int family) {
  UniqueFd fd(::socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd.valid()) return system_error(errno, "open", "raw socket");
  return fd;
}

/// The wire structures of one family. Both have the same members.
struct Ipv4 {
  using Info = ipt_getinfo;
  using Entries = ipt_get_entries;
  using Entry = ipt_entry;
  static constexpr int kLevel = IPPROTO_IP;
  static constexpr int kInfo = IPT_SO_GET_INFO;
  static constexpr int kEntries = IPT_SO_GET_ENTRIES;
};
struct Ipv6 {
  using Info = ip6t_getinfo;
  using Entries = ip6t_get_entries;
  using Entry = ip6t_entry;
  static constexpr int kLevel = IPPROTO_IPV6;
  static constexpr int kInfo = IP6T_SO_GET_INFO;
  static constexpr int kEntries = IP6T_SO_GET_ENTRIES;
};

template <class Wire>
void forget_counters(std::vector<std::byte>& rules) {
  std::size_t at = sizeof(typename Wire::Entries);
  while (at + sizeof(typename Wire::Entry) <= rules.size()) {
    typename Wire::Entry entry{};
    std::memcpy(&entry, rules.data() + at, sizeof(entry));
    entry.counters = {};
    std::memcpy(rules.data() + at, &entry, sizeof(entry));
    if (entry.next_offset < sizeof(entry)) return;
    at += entry.next_offset;
  }
}

/// Empty where it cannot be read.
template <class Wire>
std::vector<std::byte> read_rules(int fd, const std::string& table) {
  typename Wire::Info info{};
  table.copy(info.name, sizeof(info.name) - 1);
  socklen_t length = sizeof(info);
  if (::getsockopt(fd, Wire::kLevel, Wire::kInfo, &info, &length) != 0) return {};
  typename Wire::Entries head{};
  table.copy(head.name, sizeof(head.name) - 1);
  head.size = info.size;
  std::vector<std::byte> rules(sizeof(head) + info.size);
  std::memcpy(rules.data(), &head, sizeof(head));
  length = static_cast<socklen_t>(rules.size());
  // EAGAIN: it has another size by now.
  if (::getsockopt(fd, Wire::kLevel, Wire::kEntries, rules.data(), &length) != 0) return {};
  forget_counters<Wire>(rules);
  return rules;
}

}  // namespace

Result<LegacyTables> LegacyTables::open(const std::vector<Table>& tables) {
  const auto is_wanted = [&](Family family) {
    return std::ranges::find(tables, family, &Table::family) != tables.end();
  };
  UniqueFd ipv4;
  UniqueFd ipv6;
  if (is_wanted(Family::ipv4)) {
    auto fd = open_raw(AF_INET);
    if (!fd) return std::unexpected(fd.error());
    ipv4 = std::move(*fd);
  }
  if (is_wanted(Family::ipv6)) {
    auto fd = open_raw(AF_INET6);
    if (!fd) return std::unexpected(fd.error());
    ipv6 = std::move(*fd);
  }
  LegacyTables opened(std::move(ipv4), std::move(ipv6));
  for (const Table& table : tables) opened.watched_.push_back({.table = table, .rules = opened.read(table)});
  return opened;
}

bool LegacyTables::have_changed() {
  bool changed = false;
  for (Watched& watched : watched_) {
    std::vector<std::byte> now = read(watched.table);
    if (now == watched.rules) continue;
    watched.rules = std::move(now);
    changed = true;
  }
  return changed;
}

std::vector<std::byte> LegacyTables::read(const Table& table) const {
  return table.family == Family::ipv4 ? read_rules<Ipv4>(ipv4_.get(), table.name)
                                      : read_rules<Ipv6>(ipv6_.get(), table.name);
}

}  // namespace limpid
