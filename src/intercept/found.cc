// Looks by running the programs that list rules; whatever changes something is in install.cc and remove.cc.
#include "intercept/found.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/process.h"
#include "intercept/ebpf_programs.h"

namespace limpid {

std::vector<Ownership> Found::owners() const {
  std::vector<Ownership> all = nft.ours;
  for (const XtablesPiece& piece : xtables) {
    if (piece.ownership && std::ranges::find(all, *piece.ownership) == all.end()) all.push_back(*piece.ownership);
  }
  for (const EbpfInstallation& installation : ebpf) {
    if (std::ranges::find(all, installation.ownership) == all.end()) all.push_back(installation.ownership);
  }
  return all;
}

std::vector<XtablesPiece> Found::pieces(const std::string& name, Backend backend, Family family) const {
  std::vector<XtablesPiece> wanted;
  std::ranges::copy_if(xtables, std::back_inserter(wanted), [&](const XtablesPiece& piece) {
    return piece.name == name && piece.backend == backend && piece.family == family;
  });
  return wanted;
}

std::string Found::foreign(const std::string& name) const {
  const auto table = std::ranges::find(nft.foreign, table_name_of(name), &NftTableName::name);
  if (table != nft.foreign.end()) return "nft table " + table->to_string();
  return foreign_chains(name);
}

std::string Found::foreign_main(const std::string& name) const {
  const NftTableName main{.family = "inet", .name = table_name_of(name)};
  if (std::ranges::find(nft.foreign, main) != nft.foreign.end()) return "nft table " + main.to_string();
  return foreign_chains(name);
}

std::string Found::foreign_chains(const std::string& name) const {
  for (const Backend backend : {Backend::iptables_nft, Backend::iptables_legacy}) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      const auto mine = pieces(name, backend, family);
      if (is_foreign(mine)) return mine.front().to_string();
    }
  }
  return {};
}

Result<Found> find_installed() {
  Found found;
  const auto nft = find_system_program("nft", "nftables");
  const bool any_iptables =
      std::ranges::any_of(std::array{Backend::iptables_nft, Backend::iptables_legacy}, [](Backend backend) {
        return find_system_program(xtables_program(backend, Family::ipv4, "save"), "iptables").has_value();
      });
  if (nft) {
    auto tables = find_nft_tables();
    // A kernel that has no nftables has no tables in it either.
    if (tables) {
      found.nft = std::move(*tables);
    } else if ((!any_iptables && !require_ebpf_built_in()) || tables.error().kind == ErrorKind::unsupported ||
               tables.error().cause.find("not supported") == std::string::npos) {
      return std::unexpected(tables.error());
    }
  } else if (!any_iptables && !require_ebpf_built_in()) {
    return std::unexpected(nft.error());
  }
  auto pieces = find_xtables();
  if (!pieces) return std::unexpected(pieces.error());
  found.xtables = std::move(*pieces);
  auto programs = find_ebpf();
  if (!programs) return std::unexpected(programs.error());
  found.ebpf = std::move(*programs);
  return found;
}

}  // namespace limpid
