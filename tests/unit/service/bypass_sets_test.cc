// Facts about many bypass rules together: whatever they leave of the scope, a flow is intercepted as if each rule had been asked.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "policy/rule_set.h"
#include "service/bypass.h"

namespace limpid {
namespace {

struct Packet {
  IpAddress client;
  IpAddress destination;
  Port port;
  Transport transport;
};

bool is_in(const std::vector<Prefix>& networks, const IpAddress& address) {
  return std::ranges::any_of(networks, [&](const Prefix& network) {
    return network.family() == address.family() && network.contains(address);
  });
}

bool is_intercepted(const Scope& scope, const Packet& packet) {
  const PortSet& ports = packet.transport == Transport::tcp ? scope.tcp : scope.udp;
  return ports.contains(packet.port) && (scope.from_prefixes.empty() || is_in(scope.from_prefixes, packet.client)) &&
         !is_in(scope.excluded, packet.destination);
}

/// Which rule decides; the first.
const Rule* decided_by(const RuleSet& rules, const Packet& packet) {
  return rules
      .decide({.transport = packet.transport,
               .client = {.address = packet.client, .port = Port{40000}},
               .destination = {.address = packet.destination, .port = packet.port},
               .time = {},
               .first_bytes = {}})
      .rule;
}

TEST(BypassSets, a_flow_is_left_alone_exactly_if_a_rule_that_the_kernel_was_told_says_so) {
  std::mt19937 random(7);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same every time
  const auto pick = [&](int most) { return std::uniform_int_distribution(0, most)(random); };
  std::size_t told = 0;
  for (int round = 0; round < 150; ++round) {
    std::vector<Rule> rules;
    for (int i = pick(7); i >= 0; --i) {
      const std::string sign = pick(5) == 0 ? "!" : "";
      const int wider = pick(1);
      const std::string test = pick(2) == 0 ? fmt::format("{}dst(10.0.{}.0/{})", sign, pick(3) << wider, 24 - wider)
                               : pick(1) == 0
                                   ? fmt::format("{}src(192.0.2.{}/{})", sign, 32 * (pick(3) << wider), 27 - wider)
                               : pick(1) == 0 ? fmt::format("dst(2001:db8:{}::/48)", pick(2))
                                              : fmt::format("dport({})", 80 + pick(3));
      rules.push_back(parse_rule(test + (pick(3) == 0 ? " -> direct" : " -> bypass"), {}).value());
    }
    Scope scope;
    scope.tcp = PortSet::parse("80-83").value();
    scope.udp = PortSet::parse("80,82").value();
    const Scope before = scope;
    const auto relayed = apply_bypass(rules, scope, 100'000);
    told += rules.size() - relayed.size();
    const RuleSet set(rules);
    for (int i = 0; i < 200; ++i) {
      const bool ipv6 = pick(3) == 0;
      const Packet packet{
          .client = IpAddress::parse(ipv6 ? "2001:db8:9::1" : fmt::format("192.0.2.{}", pick(255))).value(),
          .destination = IpAddress::parse(ipv6 ? fmt::format("2001:db8:{}::1", pick(3))
                                               : fmt::format("10.0.{}.{}", pick(4), pick(255)))
                             .value(),
          .port = Port{static_cast<std::uint16_t>(79 + pick(5))},
          .transport = pick(1) == 0 ? Transport::tcp : Transport::udp};
      if (!is_intercepted(before, packet)) continue;
      const Rule* rule = decided_by(set, packet);
      const bool bypassed = rule != nullptr && rule->action == FlowAction::bypass;
      const bool left_alone = !is_intercepted(scope, packet);
      // A rule of which the kernel was not told all may be told in part; but nothing is left alone that no rule bypasses.
      const bool may_be_relayed = std::ranges::any_of(relayed, [&](const RelayedBypass& bypass) {
        return rule != nullptr && rules[bypass.rule].text == rule->text;
      });
      ASSERT_TRUE(!left_alone || bypassed) << packet.destination.to_string() << " round " << round;
      ASSERT_TRUE(left_alone || !bypassed || may_be_relayed) << packet.destination.to_string() << " round " << round;
    }
  }
  EXPECT_GT(told, 100U) << "or nothing was tested";
}

TEST(BypassSets, a_client_network_that_is_taken_out_stays_out) {
  Scope scope;
  scope.tcp = PortSet::parse("80").value();
  const std::vector<Rule> rules{parse_rule("src(10.0.0.0/8) -> bypass", {}).value(),
                                parse_rule("src(11.0.0.0/8) -> bypass", {}).value()};
  EXPECT_TRUE(apply_bypass(rules, scope, 1000).empty());
  EXPECT_FALSE(is_in(scope.from_prefixes, IpAddress::parse("10.1.2.3").value()));
  EXPECT_FALSE(is_in(scope.from_prefixes, IpAddress::parse("11.1.2.3").value()));
  EXPECT_TRUE(is_in(scope.from_prefixes, IpAddress::parse("12.1.2.3").value()));
  EXPECT_TRUE(is_in(scope.from_prefixes, IpAddress::parse("2001:db8::1").value()));
}

}  // namespace
}  // namespace limpid
