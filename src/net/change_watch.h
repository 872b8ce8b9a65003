// Hears what changes in the kernel's firewall and policy routing, or of this host's addresses: for whoever has put something there and wants to know when it has
// been taken away, or has judged by addresses. Says that something may have changed, not what: the listener looks for itself.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "limpid/error.h"
#include "limpid/mark.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Hears of some nftables tables (by their names, in every family), of all policy rules, of the routes of one table, and of interfaces'
/// sysctls such as forwarding, and of interfaces themselves where `and_links` says so, in the network namespace in which it was opened. Never blocks.
class ChangeWatch {
 public:
  [[nodiscard]] static Result<ChangeWatch> open(std::vector<std::string> nft_tables, TableId route_table,
                                                bool and_links = false);

  /// Readable when there may be something to hear.
  [[nodiscard]] std::array<int, 2> descriptors() const noexcept { return {firewall_.get(), routing_.get()}; }
  /// Takes everything that waits. True if something of it concerns us, or if something was lost because too much came at once.
  [[nodiscard]] bool take();

 private:
  ChangeWatch(UniqueFd firewall, UniqueFd routing, std::vector<std::string> nft_tables, TableId route_table);

  UniqueFd firewall_;
  UniqueFd routing_;
  std::vector<std::string> nft_tables_;
  TableId route_table_;
};

/// Hears of this host's addresses alone, in the network namespace in which it was opened. Never blocks.
class AddressWatch {
 public:
  [[nodiscard]] static Result<AddressWatch> open();

  /// Readable when there may be something to hear.
  [[nodiscard]] int descriptor() const noexcept { return changes_.get(); }
  /// Takes everything that waits. True if an address may have come or gone.
  [[nodiscard]] bool take();

 private:
  explicit AddressWatch(UniqueFd changes) noexcept : changes_(std::move(changes)) {}
  UniqueFd changes_;
};

}  // namespace limpid
