// Memory for bytes that were read but could not be written yet. A flow holds some only while its reader is slower than
// its writer, so that an idle flow costs nothing. One pool per worker, no locks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace limpid {

class BufferPool {
 public:
  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  BufferPool(BufferPool&&) = delete;
  BufferPool& operator=(BufferPool&&) = delete;
  ~BufferPool();

  /// At least `bytes` (1…kLargestBytes) of memory, or an empty span when there is none. Give it back with release().
  [[nodiscard]] std::span<std::byte> acquire(std::size_t bytes) noexcept;
  /// Takes back what acquire() gave, whole.
  void release(std::span<std::byte> buffer) noexcept;

  static constexpr std::size_t kLargestBytes = std::size_t{256} << 10U;

 private:
  /// Powers of four from 4 KiB: little is wasted, and few lists are kept.
  static constexpr std::array<std::size_t, 4> kSizes{4096, 16384, 65536, kLargestBytes};
  /// Kept for reuse in each class; the rest goes back to the allocator, so that a burst of slow readers leaves nothing
  /// behind.
  static constexpr std::size_t kKept = 8;
  std::array<std::vector<std::byte*>, kSizes.size()> free_;
};

}  // namespace limpid
