// The text that many rules share, so that each chain says only what is its own. Called by what writes tables; pure, and blind to what the
// rules are for.
#include "intercept/table_writer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

namespace limpid {
namespace {

/// More prefixes than this become a set: each rule costs every first packet some ten nanoseconds.
constexpr std::size_t kMostPrefixRules = 64;

}  // namespace

// nft refuses overlapping intervals.
std::vector<Prefix> disjoint(const std::vector<Prefix>& prefixes, Family family) {
  std::vector<Prefix> sorted;
  std::ranges::copy_if(prefixes, std::back_inserter(sorted), [&](const Prefix& p) { return p.family() == family; });
  std::ranges::sort(sorted);
  std::vector<Prefix> kept;
  for (const Prefix& prefix : sorted) {
    if (kept.empty() || !kept.back().contains(prefix.network())) kept.push_back(prefix);
  }
  return kept;
}

bool is_everything(const std::vector<Prefix>& disjoint_prefixes) {
  return disjoint_prefixes.size() == 1 && disjoint_prefixes.front().length() == 0;
}

std::string_view nft_family(Family family) {
  return family == Family::ipv4 ? "ipv4" : "ipv6";
}

std::string_view nft_header(Family family) {
  return family == Family::ipv4 ? "ip" : "ip6";
}

bool in_scope(const Scope& scope, Family family) {
  return family == Family::ipv4 ? scope.ipv4 : scope.ipv6;
}

void TableWriter::line(unsigned depth, std::string_view content) {
  text_.append(std::size_t{2} * depth, ' ').append(content).push_back('\n');
}
void TableWriter::rule(std::string_view content, std::string_view comment) {
  line(2, fmt::format("{} comment \"{}\"", content, comment));
}
void TableWriter::begin_chain(std::string_view name) {
  line(0, "");
  line(1, fmt::format("chain {} {{", name));
}
void TableWriter::end_chain() {
  line(1, "}");
}

void TableWriter::add_prefix_sets(std::string_view role, const std::vector<Prefix>& prefixes) {
  for (const Family family : kFamilies) {
    const std::vector<Prefix> mine = disjoint(prefixes, family);
    if (!in_scope(scope_, family) || mine.size() <= kMostPrefixRules) continue;
    line(0, "");
    line(1, fmt::format("set {}_{} {{", role, nft_family(family)));
    line(2, fmt::format("type {}_addr", nft_family(family)));
    line(2, "flags interval");
    line(2, "elements = {");
    for (std::size_t i = 0; i < mine.size(); i += 4) {
      std::vector<std::string> row;
      for (std::size_t at = i; at < std::min(i + 4, mine.size()); ++at) row.push_back(mine[at].to_string());
      line(3, fmt::format("{},", fmt::join(row, ", ")));
    }
    line(2, "}");
    line(1, "}");
  }
}

void TableWriter::add_prefix_rules(std::string_view role, std::string_view field, const std::vector<Prefix>& prefixes,
                                   std::string_view verdict) {
  for (const Family family : kFamilies) {
    const std::vector<Prefix> mine = disjoint(prefixes, family);
    if (!in_scope(scope_, family) || mine.empty()) continue;
    if (is_everything(mine)) {
      line(2, fmt::format("meta nfproto {} {}", nft_family(family), verdict));
    } else if (mine.size() > kMostPrefixRules) {
      line(2, fmt::format("{} {} @{}_{} {}", nft_header(family), field, role, nft_family(family), verdict));
    } else {
      for (const Prefix& prefix : mine) {
        line(2, fmt::format("{} {} {} {}", nft_header(family), field, prefix.to_string(), verdict));
      }
    }
  }
}

void TableWriter::add_port_rules(std::string_view protocol, std::string_view field, const PortSet& ports,
                                 std::string_view verdict) {
  std::vector<std::string> single;
  for (const PortRange& range : ports.ranges()) {
    if (range.first == range.last) single.push_back(fmt::format("{}", range.first.value));
  }
  if (!single.empty()) line(2, fmt::format("{} {} {{ {} }} {}", protocol, field, fmt::join(single, ", "), verdict));
  for (const PortRange& range : ports.ranges()) {
    if (range.first == range.last) continue;
    line(2, fmt::format("{} {} {}-{} {}", protocol, field, range.first.value, range.last.value, verdict));
  }
}

std::string TableWriter::set_intercept_mark() const {
  const MarkField& mark = inputs_.ownership.mark;
  return fmt::format("meta mark set meta mark & 0x{:08x} | 0x{:08x}", ~mark.mask, mark.intercept);
}
std::string TableWriter::has_bypass_mark() const {
  const MarkField& mark = inputs_.ownership.mark;
  return fmt::format("meta mark & 0x{:08x} == 0x{:08x}", mark.mask, mark.bypass);
}
std::string TableWriter::has_local_mark() const {
  const MarkField& mark = inputs_.ownership.mark;
  return fmt::format("meta mark & 0x{0:08x} == 0x{0:08x}", mark.mask);
}
void TableWriter::leave_other_family_alone() {
  for (const Family family : kFamilies) {
    if (!in_scope(scope_, family)) line(2, fmt::format("meta nfproto {} accept", nft_family(family)));
  }
}

void TableWriter::add_selection_by_port(std::string_view next, bool with_udp) {
  leave_other_family_alone();
  add_port_rules("tcp", "dport", scope_.tcp, fmt::format("goto {}", next));
  if (with_udp) add_port_rules("udp", "dport", scope_.udp, fmt::format("goto {}", next));
}

void TableWriter::add_destinations(std::string_view next) {
  rule("fib daddr type { local, broadcast, anycast, multicast } accept", "meant for this host");
  if (scope_.ipv4) line(2, "ip daddr 169.254.0.0/16 accept");
  if (scope_.ipv6) line(2, "ip6 daddr fe80::/10 accept");
  add_prefix_rules("excluded", "daddr", scope_.excluded, "accept");
  if (!scope_.to_prefixes.empty()) add_prefix_rules("to", "daddr", scope_.to_prefixes, fmt::format("goto {}", next));
}

}  // namespace limpid
