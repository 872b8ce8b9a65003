// All entries of a hash map of the kernel, read many at a time. For the maps of flows and of sessions.
#pragma once

#include <bpf/bpf.h>

#include <cerrno>
#include <cstdint>
#include <vector>

namespace limpid {

/// visit(key, value) of each, as far as they can be read. Those that come or go meanwhile may be among them or not.
template <typename Key, typename Value, typename Visit>
void visit_entries(int map, Visit visit) {
  constexpr std::uint32_t kBatch = 512;
  constexpr std::uint32_t kMostOfBucket = 1U << 20U;
  std::vector<Key> keys(kBatch);
  std::vector<Value> values(kBatch);
  std::uint32_t cursor = 0;
  void* from = nullptr;
  for (;;) {
    // A bucket is given out whole: where it does not fit, more room is needed (ENOSPC).
    auto count = static_cast<std::uint32_t>(keys.size());
    const int code = bpf_map_lookup_batch(map, from, &cursor, keys.data(), values.data(), &count, nullptr);
    if (code == -ENOSPC && keys.size() < kMostOfBucket) {
      keys.resize(keys.size() * 2);
      values.resize(values.size() * 2);
      continue;
    }
    if (code != 0 && code != -ENOENT) return;
    for (std::uint32_t i = 0; i < count; ++i) visit(keys[i], values[i]);
    if (code == -ENOENT) return;
    from = &cursor;
  }
}

}  // namespace limpid
