// Facts about bypass rules: what the kernel can be told, what remains of the scope, and why the others are relayed.
#include "service/bypass.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace limpid {
namespace {

std::vector<Rule> rules(std::initializer_list<std::string_view> texts) {
  std::vector<Rule> parsed;
  for (const std::string_view text : texts) parsed.push_back(parse_rule(text, {}).value());
  return parsed;
}

Scope scope(std::string_view tcp, std::string_view udp = {}) {
  Scope made;
  if (!tcp.empty()) made.tcp = PortSet::parse(tcp).value();
  if (!udp.empty()) made.udp = PortSet::parse(udp).value();
  return made;
}

std::vector<std::string> texts(const std::vector<Prefix>& prefixes) {
  std::vector<std::string> result;
  for (const Prefix& prefix : prefixes) result.push_back(prefix.to_string());
  return result;
}

/// Why the only bypass rule that is relayed is; "" if there is none.
std::string cause(std::initializer_list<std::string_view> list, Scope in) {
  const auto relayed = apply_bypass(rules(list), in, 1000);
  return relayed.empty() ? "" : relayed.front().cause;
}

TEST(Bypass, destinations_are_excluded) {
  Scope made = scope("80,443", "53");
  EXPECT_TRUE(
      apply_bypass(rules({"dst(10.0.0.0/8, 2001:db8::/32) -> bypass", "otherwise -> direct"}), made, 1000).empty());
  EXPECT_EQ(texts(made.excluded), (std::vector<std::string>{"10.0.0.0/8", "2001:db8::/32"}));
  EXPECT_EQ(made.tcp.to_string(), "80,443");
}

TEST(Bypass, all_of_ipv6_leaves_ipv4) {
  Scope made = scope("80");
  EXPECT_TRUE(apply_bypass(rules({"dst(::/0) -> bypass", "otherwise -> direct"}), made, 1000).empty());
  EXPECT_EQ(texts(made.excluded), std::vector<std::string>{"::/0"});
  EXPECT_EQ(made.tcp.to_string(), "80");
}

TEST(Bypass, what_is_not_in_a_network_is_several) {
  Scope made = scope("80");
  made.to_prefixes = {Prefix::parse("192.0.2.0/24").value()};
  EXPECT_TRUE(apply_bypass(rules({"!dst(192.0.2.0/25) -> bypass"}), made, 1000).empty());
  EXPECT_EQ(texts(made.excluded), (std::vector<std::string>{"192.0.2.128/25"})) << "only what is in scope";
}

TEST(Bypass, ports_are_left_out_for_each_transport) {
  Scope made = scope("22,80", "22,53");
  EXPECT_TRUE(apply_bypass(rules({"dport(22) -> bypass", "proto(udp) && dport(53) -> bypass"}), made, 1000).empty());
  EXPECT_EQ(made.tcp.to_string(), "80");
  EXPECT_TRUE(made.udp.empty());
}

TEST(Bypass, clients_are_left_out_where_nothing_else_chooses_them) {
  Scope made = scope("80");
  made.from_prefixes = {Prefix::parse("192.0.2.0/24").value()};
  EXPECT_TRUE(apply_bypass(rules({"src(192.0.2.0/25) -> bypass"}), made, 1000).empty());
  EXPECT_EQ(texts(made.from_prefixes), (std::vector<std::string>{"192.0.2.128/25"}));

  Scope by_interface = scope("80");
  by_interface.from_interfaces = {"lan"};
  EXPECT_NE(cause({"src(192.0.2.0/25) -> bypass"}, by_interface), "");
  Scope local = scope("80");
  local.local = LocalScope{};
  EXPECT_NE(cause({"src(192.0.2.0/25) -> bypass"}, local), "");
}

TEST(Bypass, all_clients_of_the_scope_leave_nothing) {
  Scope made = scope("80");
  made.from_prefixes = {Prefix::parse("192.0.2.0/24").value()};
  EXPECT_TRUE(apply_bypass(rules({"src(192.0.2.0/23) -> bypass"}), made, 1000).empty());
  EXPECT_TRUE(is_empty(made)) << "an empty list of clients would mean everybody";
}

TEST(Bypass, a_transport_that_is_all_there_is_needs_no_mention) {
  Scope tcp_alone = scope("80");
  EXPECT_TRUE(apply_bypass(rules({"proto(tcp) && dst(10.0.0.0/8) -> bypass"}), tcp_alone, 1000).empty());
  EXPECT_EQ(tcp_alone.excluded.size(), 1U);
  EXPECT_NE(cause({"proto(tcp) && dst(10.0.0.0/8) -> bypass"}, scope("80", "53")), "");
  Scope one_port = scope("80");
  EXPECT_TRUE(apply_bypass(rules({"dport(1-1024) && dst(10.0.0.0/8) -> bypass"}), one_port, 1000).empty());
  EXPECT_EQ(one_port.excluded.size(), 1U);
}

TEST(Bypass, what_an_earlier_rule_may_decide_stays) {
  EXPECT_EQ(cause({"domain(x.example) -> reject", "dst(10.0.0.0/8) -> bypass"}, scope("80")),
            "rule 1 may decide some of it");
  EXPECT_EQ(cause({"dst(10.1.0.0/16) -> reject", "dst(10.0.0.0/8) -> bypass"}, scope("80")),
            "rule 1 may decide some of it");
  EXPECT_EQ(cause({"dst(11.0.0.0/8) -> reject", "dst(10.0.0.0/8) -> bypass"}, scope("80")), "");
  EXPECT_EQ(cause({"proto(udp) -> reject", "dst(10.0.0.0/8) -> bypass"}, scope("80")), "") << "no UDP is intercepted";
  EXPECT_EQ(cause({"domain(x.example) -> bypass", "dst(10.0.0.0/8) -> bypass"}, scope("80")),
            "it depends on the first bytes")
      << "another bypass is in nobody's way";
}

TEST(Bypass, the_kernel_is_not_asked_for_more_than_it_can) {
  EXPECT_EQ(cause({"time(08:00-18:00) -> bypass"}, scope("80")), "it depends on the time");
  EXPECT_NE(cause({"sport(1-1024) -> bypass"}, scope("80")), "");
  EXPECT_NE(cause({"dst(10.0.0.0/8) && dport(80) -> bypass"}, scope("80,443")), "");
  EXPECT_NE(cause({"dst(10.0.0.0/8) && src(192.0.2.0/24) -> bypass"}, scope("80")), "");
  Scope few = scope("80");
  EXPECT_EQ(apply_bypass(rules({"dst(10.0.0.0/8, 12.0.0.0/8) -> bypass"}), few, 1).size(), 1U);
  EXPECT_TRUE(few.excluded.empty());
}

TEST(Bypass, one_half_of_an_alternative_may_be_told) {
  Scope made = scope("80,443");
  const auto relayed = apply_bypass(rules({"dst(10.0.0.0/8) || app(ssh) -> bypass"}), made, 1000);
  ASSERT_EQ(relayed.size(), 1U);
  EXPECT_EQ(made.excluded.size(), 1U);
}

}  // namespace
}  // namespace limpid
