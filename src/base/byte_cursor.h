// ByteCursor: what every reader of foreign bytes stands on. A read beyond the end yields nothing and marks the cursor; whoever reads asks ok() once, at the end.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace limpid {

class ByteCursor {
 public:
  explicit ByteCursor(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }
  [[nodiscard]] std::size_t left() const noexcept { return rest_.size(); }
  [[nodiscard]] std::span<const std::byte> rest() const noexcept { return rest_; }

  /// The next `count` bytes; none, and the cursor is marked, if there are fewer.
  std::span<const std::byte> take(std::size_t count) noexcept {
    if (count > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  /// What was read makes no sense.
  void fail() noexcept { ok_ = false; }

 private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

/// The same bytes, borrowed.
[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): bytes as characters
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace limpid
