// CIDR blocks: parsing, the remedy for set host bits, and containment against a slow oracle.
#include "limpid/prefix.h"

#include <gtest/gtest.h>

#include <random>

namespace limpid {
namespace {

IpAddress ip(std::string_view text) {
  return IpAddress::parse(text).value();
}
Prefix prefix(std::string_view text) {
  return Prefix::parse(text).value();
}

TEST(Prefix, prints_what_it_parsed) {
  for (const auto* text : {"0.0.0.0/0", "10.0.0.0/8", "192.0.2.128/25", "192.0.2.1/32", "::/0", "2001:db8::/32",
                           "2001:db8::1/128", "fe80::/10"}) {
    EXPECT_EQ(prefix(text).to_string(), text);
  }
}

TEST(Prefix, a_bare_address_means_its_full_length) {
  EXPECT_EQ(prefix("192.0.2.1"), prefix("192.0.2.1/32"));
  EXPECT_EQ(prefix("2001:db8::1"), prefix("2001:db8::1/128"));
}

TEST(Prefix, refuses_everything_else) {
  for (const auto* text :
       {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/ 8", "10.0.0.0/8 ",
        "10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10.0.0.0/4294967304", "10/8", "10.0.0/24", "lan", "all", "[::1]/128"}) {
    const auto result = Prefix::parse(text);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().kind, ErrorKind::usage) << text;
    EXPECT_FALSE(result.error().remedy.empty()) << text;
  }
}

TEST(Prefix, set_host_bits_are_refused_with_the_network_that_was_meant) {
  const std::array<std::pair<const char*, const char*>, 4> cases{{
      {"10.1.2.3/8", "10.0.0.0/8"},
      {"192.0.2.129/25", "192.0.2.128/25"},
      {"2001:db8::1/32", "2001:db8::/32"},
      {"1.0.0.0/0", "0.0.0.0/0"},
  }};
  for (const auto& [text, meant] : cases) {
    const auto result = Prefix::parse(text);
    ASSERT_FALSE(result) << text;
    EXPECT_NE(result.error().remedy.find(meant), std::string::npos) << result.error().message();
  }
}

TEST(Prefix, everything_contains_its_family_and_nothing_of_the_other) {
  EXPECT_EQ(Prefix::everything(Family::ipv4), prefix("0.0.0.0/0"));
  EXPECT_EQ(Prefix::everything(Family::ipv6), prefix("::/0"));
  EXPECT_TRUE(Prefix::everything(Family::ipv4).contains(ip("255.255.255.255")));
  EXPECT_FALSE(Prefix::everything(Family::ipv4).contains(ip("::")));
  EXPECT_FALSE(Prefix::everything(Family::ipv6).contains(ip("0.0.0.0")));
}

TEST(Prefix, contains_its_first_and_last_address_and_neither_neighbour) {
  const auto block = prefix("192.0.2.128/26");
  EXPECT_TRUE(block.contains(ip("192.0.2.128")));
  EXPECT_TRUE(block.contains(ip("192.0.2.191")));
  EXPECT_FALSE(block.contains(ip("192.0.2.127")));
  EXPECT_FALSE(block.contains(ip("192.0.2.192")));
  const auto wide = prefix("2001:db8:8000::/33");
  EXPECT_TRUE(wide.contains(ip("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")));
  EXPECT_FALSE(wide.contains(ip("2001:db8:7fff::")));
}

TEST(Prefix, containment_agrees_with_comparing_bit_by_bit) {
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same cases every time
  const auto bit = [](const IpAddress& address, unsigned index) {
    return (unsigned{address.bytes()[index / 8]} >> (7U - index % 8)) & 1U;
  };
  for (int round = 0; round < 20'000; ++round) {
    const auto family = random() % 2 == 0 ? Family::ipv4 : Family::ipv6;
    std::array<std::uint8_t, 16> bytes{};
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const auto network = IpAddress::from_bytes(family, bytes);
    const auto length = static_cast<unsigned>(random() % (network.bits() + 1));
    auto cut = network.bytes();
    for (unsigned index = length; index < network.bits(); ++index) {
      cut[index / 8] = static_cast<std::uint8_t>(cut[index / 8] & ~(1U << (7U - index % 8)));
    }
    const auto block = prefix(IpAddress::from_bytes(family, cut).to_string() + '/' + std::to_string(length));
    // One flipped bit anywhere: inside exactly when it lies behind the length.
    auto flipped = network.bytes();
    const auto index = static_cast<unsigned>(random() % network.bits());
    flipped[index / 8] = static_cast<std::uint8_t>(flipped[index / 8] ^ (1U << (7U - index % 8)));
    const auto other = IpAddress::from_bytes(family, flipped);
    ASSERT_NE(bit(other, index), bit(network, index));
    EXPECT_TRUE(block.contains(network));
    EXPECT_EQ(block.contains(other), index >= length) << block.to_string() << ' ' << other.to_string();
  }
}

}  // namespace
}  // namespace limpid
