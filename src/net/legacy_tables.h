// Sees whether somebody has changed the rules of iptables-legacy: its kernel interface tells nobody, so it has to be asked again and again.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Some tables of the network namespace in which it was opened, as they were when they were last looked at. A look costs two system
/// calls for each table, and no lock.
class LegacyTables {
 public:
  struct Table {
    Family family = Family::ipv4;
    std::string name;  ///< "mangle"; it must be in use, or asking for it would make it
  };
  [[nodiscard]] static Result<LegacyTables> open(const std::vector<Table>& tables);

  /// True if one is not as it was at the last look (counters aside). What cannot be read counts as changed once.
  [[nodiscard]] bool have_changed();

 private:
  struct Watched {
    Table table;
    std::vector<std::byte> rules;
  };
  LegacyTables(UniqueFd ipv4, UniqueFd ipv6) noexcept : ipv4_(std::move(ipv4)), ipv6_(std::move(ipv6)) {}
  [[nodiscard]] std::vector<std::byte> read(const Table& table) const;

  UniqueFd ipv4_;
  UniqueFd ipv6_;
  std::vector<Watched> watched_;
};

}  // namespace limpid
