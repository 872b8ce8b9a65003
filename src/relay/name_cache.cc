// A list in order of use, and a table that finds its places.
#include "relay/name_cache.h"

#include <new>
#include <utility>

namespace limpid {

std::shared_ptr<const ResolvedName> NameCache::find(const NameKey& key, std::uint64_t now_ms) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  if (found->second->until_ms <= now_ms) {
    entries_.erase(found->second);
    by_key_.erase(found);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->resolved;
}

void NameCache::put(const NameKey& key, std::shared_ptr<const ResolvedName> resolved, std::uint64_t until_ms) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    found->second->resolved = std::move(resolved);
    found->second->until_ms = until_ms;
    entries_.splice(entries_.begin(), entries_, found->second);
    return;
  }
  if (entries_.size() >= most_) {
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({.key = key, .resolved = std::move(resolved), .until_ms = until_ms});
  try {
    by_key_.emplace(key, entries_.begin());
  } catch (const std::bad_alloc&) {
    entries_.pop_front();  // nobody would find it, and its place would be taken from another one
    throw;
  }
}

void NameCache::clear() noexcept {
  by_key_.clear();
  entries_.clear();
}

}  // namespace limpid
