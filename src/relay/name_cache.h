// NameCache: what names meant when they were last looked up. Bounded, the least recently used go first; knows no clock. Part of NameLookups, under its mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "limpid/address.h"

namespace limpid {

/// A name, and of which family its addresses are to be.
struct NameKey {
  std::string name;
  Family family = Family::ipv4;
  bool operator==(const NameKey&) const = default;
};
struct NameKeyHash {
  [[nodiscard]] std::size_t operator()(const NameKey& key) const noexcept {
    return std::hash<std::string>()(key.name) * 2 + (key.family == Family::ipv6 ? 1 : 0);
  }
};

struct ResolvedName {
  std::vector<IpAddress> addresses;  ///< that may be dialled, in order of preference; empty: none
  bool forbidden = false;            ///< there were others, which no name may lead to
};

class NameCache {
 public:
  explicit NameCache(std::size_t most) noexcept : most_(most) {}
  /// nullptr: not known, or not any more.
  [[nodiscard]] std::shared_ptr<const ResolvedName> find(const NameKey& key, std::uint64_t now_ms);
  /// May throw std::bad_alloc; then it is as before.
  void put(const NameKey& key, std::shared_ptr<const ResolvedName> resolved, std::uint64_t until_ms);
  void clear() noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    NameKey key;
    std::shared_ptr<const ResolvedName> resolved;
    std::uint64_t until_ms = 0;
  };
  using Entries = std::list<Entry>;  ///< the latest used first
  std::size_t most_;
  Entries entries_;
  std::unordered_map<NameKey, Entries::iterator, NameKeyHash> by_key_;
};

}  // namespace limpid
