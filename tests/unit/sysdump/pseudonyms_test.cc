// What becomes of addresses and names, and what stays.
#include "sysdump/pseudonyms.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

namespace limpid {
namespace {

Pseudonyms with_key(std::uint8_t key) {
  Pseudonyms::Key bytes{};
  bytes[0] = key;
  return Pseudonyms(bytes);
}

unsigned shared_bits(const IpAddress& one, const IpAddress& other) {
  for (unsigned at = 0; at < one.bits(); ++at) {
    const auto bit = [&](const IpAddress& of) { return of.bytes().at(at / 8) >> (7 - at % 8) & 1U; };
    if (bit(one) != bit(other)) return at;
  }
  return one.bits();
}

TEST(Pseudonyms, addresses_change_and_keep_their_networks) {
  auto pseudonyms = with_key(7);
  std::mt19937 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same cases each time
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    std::set<std::string> made;
    std::set<std::string> given;
    for (int i = 0; i < 300; ++i) {
      std::array<std::uint8_t, 16> bytes{};
      for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
      bytes[0] = family == Family::ipv6 ? 0x20 : 198;
      auto near = bytes;
      const unsigned at = 8 + static_cast<unsigned>(random()) % (family == Family::ipv4 ? 24U : 120U);
      near.at(at / 8) ^= static_cast<std::uint8_t>(0x80U >> (at % 8));
      const auto one = IpAddress::from_bytes(family, bytes);
      const auto other = IpAddress::from_bytes(family, near);
      EXPECT_EQ(shared_bits(pseudonyms.of(one), pseudonyms.of(other)), shared_bits(one, other));
      given.insert(one.to_string());
      made.insert(pseudonyms.of(one).to_string());
    }
    EXPECT_EQ(made.size(), given.size());
  }
}

TEST(Pseudonyms, ranges_stay_what_they_are) {
  auto pseudonyms = with_key(3);
  for (const std::string same :
       {"0.0.0.0", "127.0.0.1", "127.9.8.7", "224.0.0.251", "255.255.255.255", "::", "::1", "ff02::1"})
    EXPECT_EQ(pseudonyms.apply(same), same);
  for (const auto& [address, start] : {std::pair{"192.168.7.9", "192.168."},
                                       {"10.1.2.3", "10."},
                                       {"169.254.3.4", "169.254."},
                                       {"fe80::1234:5678:9abc:def0", "fe80::"}}) {
    const auto made = pseudonyms.apply(address);
    EXPECT_TRUE(made.starts_with(start)) << made;
    EXPECT_NE(made, address);
  }
}

TEST(Pseudonyms, in_the_middle_of_any_text) {
  auto pseudonyms = with_key(5);
  const auto address = pseudonyms.apply("198.51.100.2");
  const auto address6 = pseudonyms.apply("2001:db8::2");
  EXPECT_NE(address, "198.51.100.2");
  EXPECT_NE(address6, "2001:db8::2");
  EXPECT_EQ(pseudonyms.apply("client=198.51.100.2:80, [2001:db8::2]:443."),
            "client=" + address + ":80, [" + address6 + "]:443.");
  EXPECT_EQ(pseudonyms.apply("\"198.51.100.2\" 198.51.100.2-198.51.100.2 ::ffff:198.51.100.2"),
            "\"" + address + "\" " + address + "-" + address + " ::ffff:" + address);
  // What only looks like one.
  for (const std::string same : {"2026-11-23T07:58:32.466Z", "0x1000000/0x3000000", "std::string", "12:34",
                                 "net.ipv4.ip_forward = 1", "net.ipv6.conf.all.forwarding", "/etc/limpid/limpid.toml",
                                 "kernel 6.18.0", "limpid.service", "...", "::", "a:b"})
    EXPECT_EQ(pseudonyms.apply(same), same);
}

TEST(Pseudonyms, in_whatever_is_glued_to_them) {
  auto pseudonyms = with_key(3);
  for (const auto* text : {"d198.51.100.7:5000,203.0.113.9:443", "--to-source 203.0.113.4-203.0.113.8:1024-65535",
                           "to:203.0.113.4:3128", "client_198.51.100.7", "64:ff9b::203.0.113.5", "::ffff:198.51.100.7",
                           "suffix:tracker.example", "*.tracker.example", "domain(regex: (a|b)[.]tracker[.]example)"}) {
    const auto made = pseudonyms.apply(text);
    for (const auto* secret : {"198.51.100", "203.0.113", "cb00:7105", "tracker"}) {
      EXPECT_EQ(made.find(secret), std::string::npos) << text << " → " << made;
    }
  }
  EXPECT_EQ(pseudonyms.apply("d198.51.100.7:5000"), "d" + pseudonyms.apply("198.51.100.7") + ":5000");
  for (const auto* text : {"2026-11-23T13:15:24.123Z", "::1", "tcp=80,443", "limpid-0.1.0", "std::string", "a:b:c"}) {
    EXPECT_EQ(pseudonyms.apply(text), text);
  }
}

TEST(Pseudonyms, networks_stay_networks) {
  auto pseudonyms = with_key(9);
  const auto network = pseudonyms.apply("198.51.100.0/24");
  EXPECT_TRUE(network.ends_with(".0/24")) << network;
  EXPECT_TRUE(pseudonyms.apply("198.51.100.77").starts_with(network.substr(0, network.rfind(".0/24") + 1)));
  EXPECT_TRUE(pseudonyms.apply("2001:db8:1::/48").ends_with("::/48"));
  EXPECT_EQ(pseudonyms.apply("0.0.0.0/0 ::/0"), "0.0.0.0/0 ::/0");
}

TEST(Pseudonyms, names_and_hardware_addresses) {
  auto pseudonyms = with_key(11);
  const auto parent = pseudonyms.of_name("example.org");
  EXPECT_TRUE(parent.ends_with(".org"));
  EXPECT_TRUE(pseudonyms.apply("https://WWW.example.org:8443/x").ends_with("." + parent + ":8443/x"));
  const auto rule = pseudonyms.apply("domain(suffix: example.org, exact: intranet) && dport(443) -> reject");
  EXPECT_TRUE(rule.starts_with("domain(suffix: " + parent + ", exact: n")) << rule;
  EXPECT_EQ(rule.find("intranet"), std::string::npos);
  EXPECT_TRUE(rule.ends_with(") && dport(443) -> reject"));
  EXPECT_EQ(pseudonyms.apply("fileserver"), "fileserver");
  pseudonyms.learn("FileServer");
  EXPECT_EQ(pseudonyms.apply("fileserver").find("file"), std::string::npos);
  const auto mac = pseudonyms.apply("link/ether 52:54:00:Ab:cd:ef brd ff:ff:ff:ff:ff:ff");
  EXPECT_TRUE(mac.starts_with("link/ether 02:00:00:") && mac.ends_with(" brd ff:ff:ff:ff:ff:ff")) << mac;
}

TEST(Pseudonyms, names_of_one_word_where_only_names_stand) {
  Pseudonyms pseudonyms({});
  const auto fileserver = pseudonyms.of_name("fileserver");
  EXPECT_EQ(pseudonyms.apply("socks5://fileserver:1080, \"http://***@fileserver\""),
            "socks5://" + fileserver + ":1080, \"http://***@" + fileserver + "\"");
  EXPECT_EQ(pseudonyms.apply("dport(80) -> target(fileserver:80)"), "dport(80) -> target(" + fileserver + ":80)");
  EXPECT_EQ(pseudonyms.apply("rule=1 app=tls name=fileserver bytes_up=1"),
            "rule=1 app=tls name=" + fileserver + " bytes_up=1");
  for (const auto* same : {"msg=intercepting name=web", "http://localhost/metrics", "curl http://limpid/v1/status",
                           "http://127.0.0.1:80/", "target(-)", "mail a@fileserver", "socks5://[::1]:80"})
    EXPECT_EQ(pseudonyms.apply(same), same);
  EXPECT_EQ(pseudonyms.apply("socks5://198.51.100.7:1080"), "socks5://" + pseudonyms.apply("198.51.100.7") + ":1080");
}

TEST(Pseudonyms, another_key_makes_others) {
  auto one = with_key(1);
  auto other = with_key(2);
  EXPECT_NE(one.apply("192.0.2.77 2001:db8::77 a.example 52:54:00:12:34:56"),
            other.apply("192.0.2.77 2001:db8::77 a.example 52:54:00:12:34:56"));
}

}  // namespace
}  // namespace limpid
