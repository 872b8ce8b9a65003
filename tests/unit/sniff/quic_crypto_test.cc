// The keys of RFC 9001 appendix A.1 and RFC 9369 appendix A.1. Whole packets are in the corpus, made by another implementation.
#include "sniff/quic_crypto.h"

#include <gtest/gtest.h>

#include <string>

namespace limpid {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    for (const unsigned shift : {4U, 0U}) text += "0123456789abcdef"[(std::to_integer<unsigned>(byte) >> shift) & 15U];
  }
  return text;
}

constexpr std::array<std::byte, 8> kDestination = {std::byte{0x83}, std::byte{0x94}, std::byte{0xc8}, std::byte{0xf0},
                                                   std::byte{0x3e}, std::byte{0x51}, std::byte{0x57}, std::byte{0x08}};

TEST(QuicCrypto, derives_the_keys_of_the_rfcs) {
  auto crypto = QuicCrypto::open();
  ASSERT_TRUE(crypto) << crypto.error().message();
  QuicInitialKeys keys;
  ASSERT_TRUE(crypto->derive_client_keys(QuicVersion::v1, kDestination, keys));
  EXPECT_EQ(hex(keys.key), "1f369613dd76d5467730efcbe3b1a22d");
  EXPECT_EQ(hex(keys.iv), "fa044b2f42a3fd3b46fb255c");
  EXPECT_EQ(hex(keys.header_protection), "9f50449e04a0e810283a1e9933adedd2");
  ASSERT_TRUE(crypto->derive_client_keys(QuicVersion::v2, kDestination, keys));
  EXPECT_EQ(hex(keys.key), "8b1a0bc121284290a29e0971b5cd045d");
  EXPECT_EQ(hex(keys.iv), "91f73e2351d8fa91660e909f");
  EXPECT_EQ(hex(keys.header_protection), "45b95e15235d6f45a6b19cbcb0294ba9");
}

TEST(QuicCrypto, takes_destinations_of_any_length) {
  auto crypto = QuicCrypto::open();
  ASSERT_TRUE(crypto);
  QuicInitialKeys keys;
  EXPECT_TRUE(crypto->derive_client_keys(QuicVersion::v1, {}, keys));
  const QuicInitialKeys of_nothing = keys;
  EXPECT_TRUE(crypto->derive_client_keys(QuicVersion::v1, std::array<std::byte, 20>{}, keys));
  EXPECT_NE(hex(keys.key), hex(of_nothing.key));
}

}  // namespace
}  // namespace limpid
