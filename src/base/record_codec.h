// RecordWriter and RecordReader: numbers and texts as bytes, between two processes of one host that know each other's order of them. A read beyond the end
// yields zeroes and marks the reader; whoever reads asks ok() once, at the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/byte_cursor.h"

namespace limpid {

class RecordWriter {
 public:
  /// `bytes` is appended to, and outlives the writer.
  explicit RecordWriter(std::vector<std::byte>& bytes) noexcept : bytes_(bytes) {}

  /// In the order of this host: both processes run on it.
  template <class Number>
    requires std::is_integral_v<Number>
  void number(Number value) {
    raw(std::as_bytes(std::span(&value, 1)));
  }
  template <class Enum>
    requires std::is_enum_v<Enum>
  void value(Enum chosen) {
    number(static_cast<std::underlying_type_t<Enum>>(chosen));
  }
  void text(std::string_view text) { bytes(std::as_bytes(std::span(text))); }
  /// With their number in front.
  void bytes(std::span<const std::byte> bytes) {
    number(static_cast<std::uint32_t>(bytes.size()));
    raw(bytes);
  }
  /// Without.
  void raw(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

 private:
  std::vector<std::byte>& bytes_;
};

class RecordReader : public ByteCursor {
 public:
  using ByteCursor::ByteCursor;

  /// Marks the reader unless `holds`.
  void require(bool holds) noexcept {
    if (!holds) fail();
  }

  template <class Number>
    requires std::is_integral_v<Number>
  Number number() noexcept {
    if constexpr (std::is_same_v<Number, bool>) {
      const auto given = number<std::uint8_t>();
      require(given <= 1);
      return given == 1;
    } else {
      Number value{};
      if (const auto taken = take(sizeof value); taken.size() == sizeof value)
        std::memcpy(&value, taken.data(), sizeof value);
      return value;
    }
  }
  /// One of an enumeration that ends with `last`; anything else marks the reader.
  template <class Enum>
  Enum value(Enum last) noexcept {
    const auto given = number<std::underlying_type_t<Enum>>();
    require(given <= static_cast<std::underlying_type_t<Enum>>(last));
    return ok() ? static_cast<Enum>(given) : Enum{};
  }
  [[nodiscard]] std::string text(std::size_t most) { return std::string(as_text(bytes(most))); }
  /// `most`: longer ones mark the reader.
  std::span<const std::byte> bytes(std::size_t most) noexcept {
    const auto size = number<std::uint32_t>();
    require(size <= most);
    return take(ok() ? size : 0);
  }
};

}  // namespace limpid
