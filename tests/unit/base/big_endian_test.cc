// Numbers of every length, against what the compiler knows.
#include "base/big_endian.h"

#include <gtest/gtest.h>

#include <array>

namespace limpid {
namespace {

TEST(BigEndian, the_highest_byte_comes_first) {
  std::array<std::byte, 8> bytes{};
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes.at(i) = static_cast<std::byte>(0xf0U + i);
    expected = expected * 256 + 0xf0U + i;
    EXPECT_EQ(big_endian(std::span(bytes).first(i + 1)), expected);
  }
  EXPECT_EQ(big_endian({}), 0U);
  EXPECT_EQ(big_endian16(bytes, 3), 0xf3f4U);
  EXPECT_EQ(big_endian16(bytes, 6), 0xf6f7U);
}

}  // namespace
}  // namespace limpid
