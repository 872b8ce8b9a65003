// Size classes with short free lists over the allocator.
#include "relay/buffer_pool.h"

#include <algorithm>
#include <new>

namespace limpid {
namespace {

std::size_t class_of(std::span<const std::size_t> sizes, std::size_t bytes) noexcept {
  return static_cast<std::size_t>(std::ranges::lower_bound(sizes, bytes) - sizes.begin());
}

}  // namespace

BufferPool::~BufferPool() {
  for (auto& list : free_) {
    for (std::byte* buffer : list) ::operator delete(buffer);
  }
}

std::span<std::byte> BufferPool::acquire(std::size_t bytes) noexcept {
  const auto size_class = class_of(kSizes, bytes);
  auto& list = free_[size_class];
  if (!list.empty()) {
    std::byte* buffer = list.back();
    list.pop_back();
    return {buffer, kSizes[size_class]};
  }
  void* memory = ::operator new(kSizes[size_class], std::nothrow);
  if (memory == nullptr) return {};
  return {static_cast<std::byte*>(memory), kSizes[size_class]};
}

void BufferPool::release(std::span<std::byte> buffer) noexcept {
  auto& list = free_[class_of(kSizes, buffer.size())];
  if (list.size() >= kKept) {
    ::operator delete(buffer.data());
    return;
  }
  if (list.capacity() == 0) list.reserve(kKept);
  list.push_back(buffer.data());
}

}  // namespace limpid
