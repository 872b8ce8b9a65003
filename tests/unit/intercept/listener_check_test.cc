// Which socket packets would be handed to, and whether it could take them.
#include "intercept/listener_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

namespace limpid {
namespace {

constexpr std::optional<bool> kUnknown = std::nullopt;

ServerSocket bound(std::string_view address, std::optional<bool> transparent, bool ipv6_only = true) {
  ServerSocket socket;
  socket.local = {.address = IpAddress::parse(address).value(), .port = {3129}};
  socket.transparent = transparent;
  socket.ipv6_only = ipv6_only && socket.local.family() == Family::ipv6;
  return socket;
}

Scope tcp_scope() {
  Scope scope;
  scope.tcp = *PortSet::parse("80");
  return scope;
}

Readiness readiness(std::vector<ServerSocket> sockets, Family family) {
  const auto find = [&] {
    for (const ListenerState& state : judge_listeners(tcp_scope(), sockets)) {
      if (state.family == family) return state.readiness;
    }
    return Readiness::absent;
  };
  const Readiness found = find();
  std::ranges::reverse(sockets);
  EXPECT_EQ(find(), found) << "the order in which the kernel tells them means nothing";
  return found;
}

TEST(ListenerCheck, what_the_kernel_does_not_tell_is_not_known) {
  const auto judged = [](std::optional<bool> transparent) {
    const std::vector<ServerSocket> sockets = {bound("127.0.0.1", transparent)};
    return judge_listeners(tcp_scope(), sockets).front();
  };
  EXPECT_TRUE(judged(true).known);
  EXPECT_FALSE(judged(kUnknown).known);
  EXPECT_EQ(judged(kUnknown).readiness, Readiness::ready);
}

TEST(ListenerCheck, one_at_an_interface_hears_what_arrives_there) {
  ServerSocket socket = bound("127.0.0.1", true);
  socket.device = "lan";
  const std::vector<ServerSocket> sockets = {socket};
  Scope scope = tcp_scope();
  scope.ipv6 = false;
  const auto readiness_for = [&] { return judge_listeners(scope, sockets).front().readiness; };
  EXPECT_EQ(readiness_for(), Readiness::elsewhere);
  scope.from_interfaces = {"lan"};
  EXPECT_EQ(readiness_for(), Readiness::ready);
  scope.from_interfaces = {"lan", "guests"};
  EXPECT_EQ(readiness_for(), Readiness::elsewhere);
  scope.from_interfaces = {"lan"};
  scope.local = LocalScope{};
  EXPECT_EQ(readiness_for(), Readiness::elsewhere) << "what this host sends arrives through lo";
}

TEST(ListenerCheck, nobody_is_absent) {
  EXPECT_EQ(readiness({}, Family::ipv4), Readiness::absent);
  EXPECT_EQ(readiness({bound("::1", true)}, Family::ipv4), Readiness::absent);
  EXPECT_EQ(readiness({bound("::", true)}, Family::ipv4), Readiness::absent);
}

TEST(ListenerCheck, loopback_or_any_address_and_transparent_is_ready) {
  for (const std::string_view address : {"127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"}) {
    EXPECT_EQ(readiness({bound(address, true)}, Family::ipv4), Readiness::ready) << address;
    EXPECT_EQ(readiness({bound(address, kUnknown)}, Family::ipv4), Readiness::ready) << address;
    EXPECT_EQ(readiness({bound(address, false)}, Family::ipv4), Readiness::opaque) << address;
  }
  for (const std::string_view address : {"::1", "::"}) {
    EXPECT_EQ(readiness({bound(address, true)}, Family::ipv6), Readiness::ready) << address;
    EXPECT_EQ(readiness({bound(address, false)}, Family::ipv6), Readiness::opaque) << address;
  }
  EXPECT_EQ(readiness({bound("::", true, false)}, Family::ipv4), Readiness::ready);
  EXPECT_EQ(readiness({bound("::", false, false)}, Family::ipv4), Readiness::opaque);
}

TEST(ListenerCheck, another_address_is_elsewhere) {
  for (const std::string_view address : {"192.0.2.1", "127.0.0.2", "::ffff:192.0.2.1"}) {
    EXPECT_EQ(readiness({bound(address, true)}, Family::ipv4), Readiness::elsewhere) << address;
    EXPECT_EQ(readiness({bound(address, true), bound("0.0.0.0", true)}, Family::ipv4), Readiness::ready);
    EXPECT_EQ(readiness({bound(address, true)}, Family::ipv6), Readiness::absent) << address;
  }
}

TEST(ListenerCheck, the_closest_wins) {
  EXPECT_EQ(readiness({bound("127.0.0.1", true), bound("0.0.0.0", false)}, Family::ipv4), Readiness::ready);
  EXPECT_EQ(readiness({bound("127.0.0.1", false), bound("0.0.0.0", true)}, Family::ipv4), Readiness::opaque);
  EXPECT_EQ(readiness({bound("0.0.0.0", true), bound("::", false, false)}, Family::ipv4), Readiness::ready);
  EXPECT_EQ(readiness({bound("::1", true), bound("::", false)}, Family::ipv6), Readiness::ready);
}

TEST(ListenerCheck, of_several_alike_the_worst_counts) {
  EXPECT_EQ(readiness({bound("127.0.0.1", true), bound("127.0.0.1", false)}, Family::ipv4), Readiness::opaque);
  EXPECT_EQ(readiness({bound("127.0.0.1", true), bound("127.0.0.1", true)}, Family::ipv4), Readiness::ready);
}

TEST(ListenerCheck, each_transport_and_family_in_scope_is_judged_for_itself) {
  Scope scope = tcp_scope();
  scope.udp = *PortSet::parse("53");
  ServerSocket connected = bound("127.0.0.1", true);
  connected.transport = Transport::udp;
  connected.connected = true;
  const std::vector sockets = {bound("127.0.0.1", true), connected};
  const auto states = judge_listeners(scope, sockets);
  ASSERT_EQ(states.size(), 4U);
  EXPECT_EQ(states[0].readiness, Readiness::ready);
  EXPECT_EQ(states[0].bound->to_string(), "127.0.0.1:3129");
  EXPECT_EQ(states[1].readiness, Readiness::absent) << "IPv6";
  EXPECT_EQ(states[2].transport, Transport::udp);
  EXPECT_EQ(states[2].readiness, Readiness::absent) << "it hears its peer only";
  scope.ipv6 = false;
  EXPECT_EQ(judge_listeners(scope, sockets).size(), 2U);
}

}  // namespace
}  // namespace limpid
