// What explains a packet that vanished between two hooks, where nftables says nothing: the kernel's drop reasons, its routing's answers, the
// settings that make it refuse a packet. Reading acts; the words about it are pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "explain/walk.h"
#include "limpid/address.h"
#include "net/netlink.h"

namespace limpid {

struct Evidence {
  std::vector<std::string> drop_reasons;  ///< the kernel's names: "IP_RPFILTER"
  std::string no_drop_reasons;            ///< why there are none to be had; empty: there would be
  std::map<std::string, std::uint64_t>
      counters;  ///< those about drops that rose meanwhile, by how much: "TcpExt IPReversePathFilter"
  std::optional<RouteAnswer> route;          ///< for the packet as it was when it vanished, with its mark
  std::optional<RouteAnswer> route_as_sent;  ///< to the same place if this host had sent it: names what refuses
  std::optional<RouteAnswer> way_back;       ///< to its source, without a mark
  std::string interface;                     ///< where it arrived; empty: this host sent it
  std::optional<int> rp_filter_all;          ///< net.ipv4.conf.all.rp_filter
  std::optional<int> rp_filter;              ///< of the interface
  std::optional<int> src_valid_mark;         ///< the larger of both
  std::optional<int> forwarding;             ///< of the interface, and of the packet's family
  std::string legacy_tables;                 ///< of iptables-legacy, which have rules: "filter, mangle"
};

/// The counters of /proc/net/snmp, netstat and snmp6 that count packets which were thrown away.
using DropCounters = std::map<std::string, std::uint64_t>;
[[nodiscard]] DropCounters read_drop_counters();
/// Those that rose, by how much. Others' packets count as well.
[[nodiscard]] DropCounters rise(const DropCounters& before, const DropCounters& after);
/// /proc/net/snmp and netstat: a line of names, then one of numbers, each begins with "Ip:".
[[nodiscard]] DropCounters parse_paired_counters(std::string_view text);

/// iptables-legacy's tables that have rules or drop by policy; nft's trace does not show them. "filter, mangle (IPv6)"
[[nodiscard]] std::string find_legacy_tables();
/// What iptables-legacy-save printed: the tables with rules or another policy than ACCEPT.
[[nodiscard]] std::vector<std::string> parse_legacy_tables(std::string_view text);

/// Fills in what the routing and the settings say about the walk's end.
void gather_evidence(const Walk& walk, const std::optional<std::uint32_t>& user, Evidence& evidence);

/// Why it vanished, in one sentence, with what the sentence is drawn from: "the reverse path filter of lan: …".
[[nodiscard]] std::string explain_loss(const Walk& walk, const Evidence& evidence);
/// How the routing decided: "delivered to this host (table 7676)", "by wan to 198.51.100.2 (table 254)".
[[nodiscard]] std::string describe(const RouteAnswer& answer);

}  // namespace limpid
