// Names: what is normalised, what is refused.
#include "sniff/host_name.h"

#include <gtest/gtest.h>

#include <string>

namespace limpid {
namespace {

std::string host(std::string_view text) {
  HostName name;
  return name.assign_host(text) ? std::string(name.view()) : "refused";
}
std::string authority(std::string_view text) {
  HostName name;
  return name.assign_authority(text) ? std::string(name.view()) : "refused";
}

TEST(HostName, is_lower_case_without_a_trailing_dot) {
  EXPECT_EQ(host("WWW.Example.COM."), "www.example.com");
  EXPECT_EQ(host("localhost"), "localhost");
  EXPECT_EQ(host("_443._tcp.r3---sn-x.example"), "_443._tcp.r3---sn-x.example");
  EXPECT_EQ(host("XN--Bcher-KVA.example"), "xn--bcher-kva.example");
}

TEST(HostName, has_no_empty_or_long_labels) {
  const std::string label(63, 'a');
  for (const char* text : {"", ".", "..", ".a", "a..b", "a.."}) EXPECT_EQ(host(text), "refused") << text;
  EXPECT_EQ(host(label + ".b"), label + ".b");
  EXPECT_EQ(host(label + "a.b"), "refused");
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'b');
  EXPECT_EQ(host(longest), longest);
  EXPECT_EQ(host(longest + "."), longest);
  EXPECT_EQ(host(longest + "b"), "refused");
}

TEST(HostName, takes_no_byte_but_letters_digits_hyphens_underscores_and_dots) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<char>(byte);
    const std::string text = {'a', c, 'b', '.', 'x'};
    const bool allowed =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    HostName name;
    EXPECT_EQ(name.assign_host(text), allowed) << byte;
    EXPECT_EQ(name.assign_domain(text), allowed) << byte;
    EXPECT_EQ(name.empty(), !allowed) << byte;
  }
}

TEST(HostName, marks_addresses) {
  HostName name;
  ASSERT_TRUE(name.assign_host("192.0.2.1"));
  EXPECT_EQ(name.kind(), HostName::Kind::ipv4);
  ASSERT_TRUE(name.assign_host("2001:DB8:0:0::1"));
  EXPECT_EQ(name.kind(), HostName::Kind::ipv6);
  EXPECT_EQ(name.view(), "2001:db8::1");
  EXPECT_TRUE(name.is_address());
  ASSERT_TRUE(name.assign_host("a.b"));
  EXPECT_FALSE(name.is_address());
}

/// inet_aton(3) and browsers read these as addresses, others as names.
TEST(HostName, is_no_number_that_somebody_reads_as_an_address) {
  for (const char* text : {"127.1", "2130706433", "0x7f.0.0.1", "0x7f000001", "0177.0.0.1", "1.2.3.4.5", "1.2.3.256",
                           "192.0.2.01", "a.1", "a.0x", "a.0xF."}) {
    EXPECT_EQ(host(text), "refused") << text;
    EXPECT_EQ(authority(text), "refused") << text;
  }
  EXPECT_EQ(host("1.2.3.4."), "1.2.3.4");
  EXPECT_EQ(host("1.example"), "1.example");
  EXPECT_EQ(host("0x7g"), "0x7g");
}

TEST(HostName, of_an_authority_is_without_its_port) {
  EXPECT_EQ(authority("Example.com:443"), "example.com");
  EXPECT_EQ(authority("example.com:"), "example.com");
  EXPECT_EQ(authority("192.0.2.1:80"), "192.0.2.1");
  EXPECT_EQ(authority("[2001:DB8::1]"), "2001:db8::1");
  EXPECT_EQ(authority("[2001:DB8::1]:443"), "2001:db8::1");
  EXPECT_EQ(authority("[::]:"), "::");
}

TEST(HostName, of_an_authority_is_refused_with_anything_else) {
  for (const char* text :
       {"",    ":80",         "a:b",          "a:80:80",      "a:65536",       "a:000080", "a:+80",   "a: 80",
        "a@b", "2001:db8::1", "[2001:db8::1", "2001:db8::1]", "[example.com]", "[::1]80",  "[::1]:x", "[fe80::1%eth0]",
        "[]",  "a/b",         "a?",           "a b",          "[v1.x]"}) {
    EXPECT_EQ(authority(text), "refused") << text;
  }
}

TEST(HostName, is_empty_after_a_refusal) {
  HostName name;
  ASSERT_TRUE(name.assign_host("example.com"));
  EXPECT_FALSE(name.assign_host("exa mple.com"));
  EXPECT_TRUE(name.empty());
  EXPECT_EQ(name.view(), "");
}

}  // namespace
}  // namespace limpid
