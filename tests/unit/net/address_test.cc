// Addresses as values: what parses, what does not and why, how they print, and the way to and from the kernel's
// structures.
#include "limpid/address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <set>

namespace limpid {
namespace {

IpAddress ip(std::string_view text) {
  return IpAddress::parse(text).value();
}

TEST(IpAddress, prints_what_it_parsed_in_canonical_form) {
  const std::array<std::pair<std::string_view, std::string_view>, 7> cases{{
      {"0.0.0.0", "0.0.0.0"},
      {"192.0.2.1", "192.0.2.1"},
      {"255.255.255.255", "255.255.255.255"},
      {"::", "::"},
      {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
      {"2001:db8::1:0:0:1", "2001:db8::1:0:0:1"},
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
  }};
  for (const auto& [text, canonical] : cases) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), canonical);
    EXPECT_EQ(ip(address->to_string()), *address);
  }
}

TEST(IpAddress, refuses_everything_that_is_no_plain_address) {
  using namespace std::string_view_literals;
  for (const auto text : {""sv,           " "sv,         "192.0.2"sv,     "192.0.2.256"sv,  "192.0.2.1 "sv,
                          " 192.0.2.1"sv, "0x7f.1"sv,    "127.1"sv,       "192.0.2.1/32"sv, "192.0.2.1:80"sv,
                          "[::1]"sv,      "::1%lo"sv,    "fe80::1%1"sv,   ":::"sv,          "1::2::3"sv,
                          "12345::"sv,    "localhost"sv, "example.org"sv, "192.0.2.1\n"sv,  "192.0.2.1\0x"sv,
                          "\0"sv}) {
    const auto address = IpAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().kind, ErrorKind::usage);
    EXPECT_FALSE(address.error().remedy.empty()) << "a user typed it and wants to know what to type instead";
  }
}

TEST(IpAddress, a_very_long_text_is_refused) {
  EXPECT_FALSE(IpAddress::parse(std::string(1U << 20U, '1')));
  EXPECT_FALSE(IpAddress::parse(std::string(1U << 20U, ':')));
}

TEST(IpAddress, knows_its_family_and_size) {
  EXPECT_EQ(ip("192.0.2.1").family(), Family::ipv4);
  EXPECT_EQ(ip("192.0.2.1").bits(), 32U);
  EXPECT_EQ(ip("::1").family(), Family::ipv6);
  EXPECT_EQ(ip("::1").bits(), 128U);
  EXPECT_EQ(to_string(Family::ipv4), "IPv4");
  EXPECT_EQ(to_string(Family::ipv6), "IPv6");
}

TEST(IpAddress, default_is_the_unspecified_ipv4_address) {
  EXPECT_EQ(IpAddress(), ip("0.0.0.0"));
  EXPECT_EQ(IpAddress(), IpAddress::any(Family::ipv4));
}

TEST(IpAddress, special_addresses) {
  EXPECT_EQ(IpAddress::any(Family::ipv6), ip("::"));
  EXPECT_EQ(IpAddress::loopback(Family::ipv4), ip("127.0.0.1"));
  EXPECT_EQ(IpAddress::loopback(Family::ipv6), ip("::1"));
}

TEST(IpAddress, bytes_are_in_network_order_and_zero_behind_an_ipv4_address) {
  const auto address = ip("1.2.3.4");
  EXPECT_EQ(address.bytes(), (std::array<std::uint8_t, 16>{1, 2, 3, 4}));
  std::array<std::uint8_t, 16> noise{};
  noise.fill(0xff);
  EXPECT_EQ(IpAddress::from_bytes(Family::ipv4, noise).bytes(), (std::array<std::uint8_t, 16>{0xff, 0xff, 0xff, 0xff}));
  EXPECT_EQ(IpAddress::from_bytes(Family::ipv4, noise), ip("255.255.255.255"));
  EXPECT_EQ(IpAddress::from_bytes(Family::ipv6, noise), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
}

TEST(IpAddress, loopback_ends_where_127_ends) {
  for (const auto* text : {"127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"})
    EXPECT_TRUE(ip(text).is_loopback()) << text;
  for (const auto* text : {"126.255.255.255", "128.0.0.0", "::", "::2", "7f00::1", "::ffff:127.0.0.1"}) {
    EXPECT_FALSE(ip(text).is_loopback()) << text;
  }
}

TEST(IpAddress, multicast_ends_where_the_block_ends) {
  for (const auto* text : {"224.0.0.0", "239.255.255.255", "ff00::", "ff02::1"})
    EXPECT_TRUE(ip(text).is_multicast()) << text;
  for (const auto* text : {"223.255.255.255", "240.0.0.0", "fe00::", "e000::"})
    EXPECT_FALSE(ip(text).is_multicast()) << text;
}

TEST(IpAddress, link_local_ends_where_the_block_ends) {
  for (const auto* text : {"169.254.0.0", "169.254.255.255", "fe80::", "febf:ffff::"})
    EXPECT_TRUE(ip(text).is_link_local()) << text;
  for (const auto* text : {"169.253.255.255", "169.255.0.0", "fec0::", "fe7f::", "a9fe::"}) {
    EXPECT_FALSE(ip(text).is_link_local()) << text;
  }
}

TEST(IpAddress, only_all_ones_is_broadcast_and_only_all_zeros_unspecified) {
  EXPECT_TRUE(ip("255.255.255.255").is_broadcast());
  EXPECT_FALSE(ip("255.255.255.254").is_broadcast());
  EXPECT_FALSE(ip("ffff:ffff::").is_broadcast());
  EXPECT_TRUE(ip("0.0.0.0").is_unspecified());
  EXPECT_TRUE(ip("::").is_unspecified());
  EXPECT_FALSE(ip("0.0.0.1").is_unspecified());
  EXPECT_FALSE(ip("::1").is_unspecified());
}

TEST(IpAddress, only_a_mapped_address_is_unmapped) {
  EXPECT_EQ(ip("::ffff:192.0.2.1").unmapped(), ip("192.0.2.1"));
  for (const auto* text :
       {"192.0.2.1", "::192.0.2.1", "64:ff9b::192.0.2.1", "::fffe:192.0.2.1", "2001:db8::ffff:c000:201"}) {
    EXPECT_EQ(ip(text).unmapped(), ip(text)) << text;
  }
}

TEST(IpAddress, an_ipv6_address_never_equals_an_ipv4_address) {
  EXPECT_NE(ip("0.0.0.0"), ip("::"));
  EXPECT_NE(ip("1.2.3.4"), ip("102:304::"));
}

TEST(IpAddress, sorts_by_its_bytes) {
  const std::set<IpAddress> sorted{ip("10.0.0.2"), ip("9.255.255.255"), ip("10.0.0.1")};
  EXPECT_EQ(*sorted.begin(), ip("9.255.255.255"));
  EXPECT_EQ(*sorted.rbegin(), ip("10.0.0.2"));
}

TEST(SocketAddress, prints_what_it_parsed) {
  for (const auto* text : {"192.0.2.1:80", "0.0.0.0:65535", "[2001:db8::1]:443", "[::]:1", "[::ffff:192.0.2.1]:80"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
    EXPECT_EQ(address->scope_id, 0U);
  }
}

TEST(SocketAddress, refuses_everything_else) {
  for (const auto* text : {"",
                           ":",
                           ":80",
                           "192.0.2.1",
                           "192.0.2.1:",
                           "192.0.2.1:0",
                           "192.0.2.1:65536",
                           "192.0.2.1:4294967376",
                           "192.0.2.1:+80",
                           "192.0.2.1:-80",
                           "192.0.2.1: 80",
                           "192.0.2.1:80 ",
                           "192.0.2.1:http",
                           "192.0.2.1:0x50",
                           "[192.0.2.1]:80",
                           "2001:db8::1:80",
                           "::1",
                           "[::1]",
                           "[::1]80",
                           "[::1]:",
                           "[::1:80",
                           "::1]:80",
                           "[]:80",
                           "[[::1]]:80",
                           "[fe80::1%1]:80",
                           "localhost:80"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().kind, ErrorKind::usage) << text;
    EXPECT_FALSE(address.error().remedy.empty()) << text;
  }
}

TEST(SocketAddress, a_scope_is_printed) {
  const SocketAddress address{.address = ip("fe80::1"), .port = Port{80}, .scope_id = 3};
  EXPECT_EQ(address.to_string(), "[fe80::1%3]:80");
}

TEST(SocketAddress, survives_the_way_to_the_kernel_and_back) {
  for (const auto& address :
       {SocketAddress{ip("192.0.2.1"), Port{80}, 0}, SocketAddress{ip("0.0.0.0"), Port{0}, 0},
        SocketAddress{ip("2001:db8::1"), Port{65535}, 0}, SocketAddress{ip("fe80::1"), Port{443}, 7}}) {
    sockaddr_storage native{};
    std::memset(&native, 0xff, sizeof native);
    const auto length = address.to_native(native);
    EXPECT_EQ(length, address.family() == Family::ipv4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    EXPECT_EQ(native.ss_family, address.family() == Family::ipv4 ? AF_INET : AF_INET6);
    EXPECT_EQ(SocketAddress::from_native(native).value(), address) << address.to_string();
  }
}

TEST(SocketAddress, reaches_the_kernel_in_network_order) {
  sockaddr_storage native{};
  std::ignore = SocketAddress{ip("1.2.3.4"), Port{0x1234}, 0}.to_native(native);
  sockaddr_in ipv4{};
  std::memcpy(&ipv4, &native, sizeof ipv4);
  EXPECT_EQ(ipv4.sin_port, htons(0x1234));
  EXPECT_EQ(ipv4.sin_addr.s_addr, htonl(0x01020304));
}

TEST(SocketAddress, a_mapped_address_of_a_dual_stack_socket_becomes_ipv4) {
  sockaddr_storage native{};
  std::ignore = SocketAddress{ip("::ffff:192.0.2.1"), Port{80}, 5}.to_native(native);
  EXPECT_EQ(SocketAddress::from_native(native).value(), (SocketAddress{ip("192.0.2.1"), Port{80}, 0}));
}

TEST(SocketAddress, other_address_families_are_an_error) {
  for (const int family : {AF_UNSPEC, AF_UNIX, AF_PACKET}) {
    sockaddr_storage native{};
    native.ss_family = static_cast<sa_family_t>(family);
    EXPECT_FALSE(SocketAddress::from_native(native)) << family;
  }
}

}  // namespace
}  // namespace limpid
