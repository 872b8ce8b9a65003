// Pieces in any order, against a map that remembers each byte.
#include "sniff/crypto_assembly.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace limpid {
namespace {

using Added = CryptoAssembly::Added;

std::vector<std::byte> piece_of(std::size_t offset, std::size_t length) {
  std::vector<std::byte> piece(length);
  for (std::size_t i = 0; i < length; ++i) piece[i] = static_cast<std::byte>((offset + i) * 7 % 251);
  return piece;
}

TEST(CryptoAssembly, agrees_with_a_map_of_bytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    CryptoAssembly assembly;
    std::map<std::size_t, std::byte> oracle;
    for (int i = 0; i < 60; ++i) {
      const std::size_t offset = random() % 600;
      auto piece = piece_of(offset, random() % 40);
      if (random() % 50 == 0 && !piece.empty()) piece[random() % piece.size()] ^= std::byte{1};
      bool contradicts = false;
      for (std::size_t at = 0; at < piece.size(); ++at)
        contradicts |= oracle.try_emplace(offset + at, piece[at]).first->second != piece[at];
      ASSERT_EQ(assembly.add(offset, piece), contradicts ? Added::contradiction : Added::stored);
      if (contradicts) break;
      std::size_t contiguous = 0;
      while (oracle.contains(contiguous)) ++contiguous;
      ASSERT_EQ(assembly.contiguous().size(), contiguous);
      for (std::size_t at = 0; at < contiguous; ++at) ASSERT_EQ(assembly.contiguous()[at], oracle.at(at));
    }
  }
}

TEST(CryptoAssembly, takes_its_last_byte_and_none_behind_it) {
  constexpr std::size_t most = CryptoAssembly::kMostBytes;
  CryptoAssembly assembly;
  EXPECT_EQ(assembly.add(most - 1, piece_of(most - 1, 1)), Added::stored);
  EXPECT_EQ(assembly.add(most, {}), Added::stored);
  EXPECT_EQ(assembly.add(most - 1, piece_of(most - 1, 2)), Added::too_long);
  EXPECT_EQ(assembly.add(~std::uint64_t{0}, piece_of(0, 1)), Added::too_long);
  EXPECT_EQ(assembly.add(~std::uint64_t{0}, {}), Added::too_long);
  EXPECT_EQ(assembly.add(0, piece_of(0, most)), Added::stored);
  EXPECT_EQ(assembly.contiguous().size(), most);
}

TEST(CryptoAssembly, forgets_when_it_begins_anew) {
  CryptoAssembly assembly;
  EXPECT_EQ(assembly.add(0, piece_of(0, 20)), Added::stored);
  assembly.clear();
  EXPECT_TRUE(assembly.contiguous().empty());
  EXPECT_EQ(assembly.add(0, piece_of(5, 20)), Added::stored);
  EXPECT_EQ(assembly.contiguous().size(), 20U);
}

}  // namespace
}  // namespace limpid
