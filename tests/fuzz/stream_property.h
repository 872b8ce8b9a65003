// What the fuzzers of streams share: one protocol's beginning before the input, and the properties of tests/unit/sniff/properties.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "sniff/sniffed.h"
#include "tests/fuzz/property.h"
#include "tests/unit/sniff/properties.h"

namespace limpid::fuzz {

/// Each prefix of a short input, some 64 of a long one.
inline void check_stream(std::span<const std::byte> stream) {
  const auto broken = sniff_properties::broken_by_cutting(stream, stream.size() / 64 + 1);
  check(broken.empty(), broken.c_str());
}

inline std::vector<std::byte> joined(std::string_view beginning, std::span<const std::uint8_t> input) {
  const auto first = std::as_bytes(std::span(beginning));
  const auto second = std::as_bytes(input);
  std::vector<std::byte> stream(first.begin(), first.end());
  stream.insert(stream.end(), second.begin(), second.end());
  return stream;
}

}  // namespace limpid::fuzz
