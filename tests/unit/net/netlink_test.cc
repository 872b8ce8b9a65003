// rtnetlink against the real kernel: what is written is read back equal, and refusals carry the kernel's own words.
#include "net/netlink.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>
#include <tuple>

#include "fresh_namespace.h"

namespace limpid {
namespace {

constexpr std::uint8_t kProtocol = 76;

IpAddress address(std::string_view text) {
  return IpAddress::parse(text).value();
}

template <class T>
bool contains(const std::vector<T>& all, const T& wanted) {
  return std::find(all.begin(), all.end(), wanted) != all.end();
}

std::string why(const Status& status) {
  return status ? "" : status.error().message();
}

RuleSpec lookup_rule(Family family, std::uint32_t priority) {
  RuleSpec rule;
  rule.family = family;
  rule.priority = {priority};
  rule.mark = Mark{.value = 0x1, .mask = 0x3};
  rule.table = {7676};
  rule.protocol = kProtocol;
  return rule;
}

class Netlink : public FreshNamespace {};

TEST_F(Netlink, rules_of_a_fresh_namespace_are_the_usual_three) {
  const auto rules = socket().rules(Family::ipv4).value();
  ASSERT_EQ(rules.size(), 3U);
  EXPECT_EQ(rules[0].priority.value, 0U);
  EXPECT_EQ(rules[0].table.value, 255U);
  EXPECT_EQ(rules[0].action, RuleAction::lookup);
  EXPECT_EQ(rules[2].priority.value, 32767U);
}

TEST_F(Netlink, each_kind_of_rule_is_read_back_equal) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    RuleSpec nop;
    nop.family = family;
    nop.priority = {102};
    nop.action = RuleAction::nop;
    nop.protocol = kProtocol;

    RuleSpec jump = lookup_rule(family, 100);
    jump.input_interface = "lo";
    jump.action = RuleAction::jump;
    jump.table = {};
    jump.jump_target = {102};

    RuleSpec inverted = lookup_rule(family, 103);
    inverted.inverted = true;
    inverted.table = {200};

    for (const auto& rule : {nop, jump, lookup_rule(family, 101), inverted}) {
      ASSERT_TRUE(socket().add_rule(rule)) << why(socket().add_rule(rule));
      EXPECT_TRUE(contains(socket().rules(family).value(), rule)) << rule.priority.value;
    }
    for (const auto& rule : {jump, lookup_rule(family, 101), nop, inverted}) {
      const auto deleted = socket().delete_rule(rule);
      ASSERT_TRUE(deleted) << why(deleted);
      EXPECT_FALSE(contains(socket().rules(family).value(), rule)) << rule.priority.value;
    }
  }
}

TEST_F(Netlink, a_jump_may_point_to_a_rule_that_does_not_exist_yet) {
  RuleSpec jump = lookup_rule(Family::ipv4, 100);
  jump.action = RuleAction::jump;
  jump.table = {};
  jump.jump_target = {102};
  EXPECT_TRUE(socket().add_rule(jump));
  EXPECT_TRUE(contains(socket().rules(Family::ipv4).value(), jump));
}

TEST_F(Netlink, a_second_equal_rule_is_refused) {
  const auto rule = lookup_rule(Family::ipv4, 100);
  ASSERT_TRUE(socket().add_rule(rule));
  const auto again = socket().add_rule(rule);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, EEXIST);
}

TEST_F(Netlink, deleting_a_rule_leaves_those_of_other_protocols_alone) {
  auto other = lookup_rule(Family::ipv4, 100);
  other.protocol = 99;
  ASSERT_TRUE(socket().add_rule(other));
  const auto deleted = socket().delete_rule(lookup_rule(Family::ipv4, 100));
  ASSERT_FALSE(deleted);
  EXPECT_EQ(deleted.error().code, ENOENT);
  EXPECT_TRUE(contains(socket().rules(Family::ipv4).value(), other));
}

TEST_F(Netlink, deleting_a_missing_rule_is_an_error) {
  const auto deleted = socket().delete_rule(lookup_rule(Family::ipv6, 100));
  ASSERT_FALSE(deleted);
  EXPECT_EQ(deleted.error().code, ENOENT);
}

TEST_F(Netlink, a_refusal_carries_the_kernels_words) {
  RuleSpec backward = lookup_rule(Family::ipv4, 100);
  backward.action = RuleAction::jump;
  backward.jump_target = {50};
  const auto refused = socket().add_rule(backward);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EINVAL);
  EXPECT_EQ(refused.error().message(), "add IPv4 rule 100: Backward goto not supported (Invalid argument)");
}

TEST_F(Netlink, local_default_routes_are_read_back_equal) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    RouteSpec route;
    route.destination = Prefix::everything(family);
    route.table = {7676};
    route.local = true;
    route.device = "lo";
    route.protocol = kProtocol;
    const auto added = socket().add_route(route);
    ASSERT_TRUE(added) << why(added);
    EXPECT_TRUE(contains(socket().routes(family).value(), route));
    EXPECT_EQ(socket().add_route(route).error().code, EEXIST);
    const auto deleted = socket().delete_route(route);
    ASSERT_TRUE(deleted) << why(deleted);
    EXPECT_FALSE(contains(socket().routes(family).value(), route));
    EXPECT_EQ(socket().delete_route(route).error().code, ESRCH);
  }
}

TEST_F(Netlink, deleting_a_route_leaves_those_of_other_protocols_alone) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    RouteSpec other;
    other.destination = Prefix::everything(family);
    other.table = {7676};
    other.local = true;
    other.device = "lo";
    other.protocol = 99;
    ASSERT_TRUE(socket().add_route(other));
    RouteSpec ours = other;
    ours.protocol = kProtocol;
    EXPECT_FALSE(socket().delete_route(ours));
    EXPECT_TRUE(contains(socket().routes(family).value(), other));
  }
}

TEST_F(Netlink, routes_through_gateways_are_read_back_equal) {
  const auto here = current_network_namespace().value();
  ASSERT_TRUE(socket().add_veth("one", "two", here.get()));
  ASSERT_TRUE(socket().set_link_up("two"));
  ASSERT_TRUE(socket().set_link_up("one"));
  ASSERT_TRUE(socket().add_address("one", address("192.0.2.2"), 24));
  ASSERT_TRUE(socket().add_address("one", address("2001:db8:1::2"), 64));
  for (const auto& [destination, gateway] :
       {std::pair{"203.0.113.0/24", "192.0.2.1"}, std::pair{"2001:db8:3::/48", "2001:db8:1::1"}}) {
    RouteSpec route;
    route.destination = Prefix::parse(destination).value();
    route.table = {254};
    route.device = "one";
    route.gateway = address(gateway);
    route.protocol = kProtocol;
    const auto added = socket().add_route(route);
    ASSERT_TRUE(added) << why(added);
    EXPECT_TRUE(contains(socket().routes(route.destination.family()).value(), route)) << destination;
    EXPECT_TRUE(socket().delete_route(route));
  }
}

TEST_F(Netlink, a_table_of_many_routes_is_read_whole) {
  constexpr int kRoutes = 5000;  // many reads' worth: the dump spans several messages
  for (int number = 0; number < kRoutes; ++number) {
    RouteSpec route;
    route.destination =
        Prefix::parse("10." + std::to_string(number / 256) + "." + std::to_string(number % 256) + ".0/24").value();
    route.table = {1000000};
    route.device = "lo";
    route.protocol = kProtocol;
    ASSERT_TRUE(socket().add_route(route));
  }
  const auto routes = socket().routes(Family::ipv4).value();
  EXPECT_EQ(std::count_if(routes.begin(), routes.end(), [](const auto& route) { return route.table.value == 1000000; }),
            kRoutes);
}

TEST_F(Netlink, rules_are_whole_while_somebody_else_changes_them) {
  auto other = RouteSocket::open().value();
  std::jthread changer([&other](const std::stop_token& stop) {
    std::uint32_t priority = 1000;
    while (!stop.stop_requested()) {
      std::ignore = other.add_rule(lookup_rule(Family::ipv4, priority));
      std::ignore = other.delete_rule(lookup_rule(Family::ipv4, priority));
      priority = priority < 2000 ? priority + 1 : 1000;
    }
  });
  for (int reading = 0; reading < 500; ++reading) {
    const auto rules = socket().rules(Family::ipv4);
    ASSERT_TRUE(rules) << rules.error().message();
    EXPECT_GE(rules->size(), 3U);
    EXPECT_LE(rules->size(), 4U);
  }
}

TEST_F(Netlink, a_veth_pair_spans_two_namespaces) {
  const auto first = current_network_namespace().value();
  ASSERT_TRUE(enter_new_network_namespace());
  const auto second = current_network_namespace().value();
  auto second_socket = RouteSocket::open().value();

  const auto added = socket().add_veth("near", "far", second.get());
  ASSERT_TRUE(added) << why(added);
  const auto has = [](RouteSocket& where, std::string_view name) {
    const auto links = where.links().value();
    return std::ranges::any_of(links, [name](const auto& link) { return link.name == name; });
  };
  EXPECT_TRUE(has(socket(), "near"));
  EXPECT_FALSE(has(socket(), "far"));
  EXPECT_TRUE(has(second_socket, "far"));
  EXPECT_EQ(socket().add_veth("near", "farther", second.get()).error().code, EEXIST);
}

TEST_F(Netlink, addresses_are_usable_at_once) {
  ASSERT_TRUE(socket().add_address("lo", address("192.0.2.7"), 32));
  ASSERT_TRUE(socket().add_address("lo", address("2001:db8::7"), 128));
  const auto found = socket().addresses().value();
  for (const auto* text : {"192.0.2.7", "2001:db8::7"}) {
    const auto wanted = address(text);
    EXPECT_TRUE(std::ranges::any_of(found, [&wanted](const auto& info) { return info.address == wanted; }));
    const UniqueFd listener(
        ::socket(wanted.family() == Family::ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage native{};
    const auto length = SocketAddress{.address = wanted, .port = {}}.to_native(native);
    // A tentative IPv6 address (duplicate address detection under way) would refuse this.
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&native), length), 0) << text;
  }
}

TEST_F(Netlink, loopback_is_up_and_a_missing_link_is_named) {
  const auto links = socket().links().value();
  ASSERT_EQ(links.size(), 1U);
  EXPECT_EQ(links[0].name, "lo");
  EXPECT_TRUE(links[0].up);
  EXPECT_EQ(links[0].mtu, 65536U);
  const auto missing = socket().set_link_up("nowhere0");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENODEV);
  EXPECT_NE(missing.error().message().find("nowhere0"), std::string::npos);
}

TEST_F(Netlink, routes_are_looked_up_as_the_kernel_would) {
  const auto ask = [&](std::string_view to, std::uint32_t mark = 0) {
    return socket()
        .look_up({.destination = address(to), .source = {}, .input_interface = {}, .mark = mark, .user = {}})
        .value();
  };
  for (const auto* text : {"192.0.2.7", "2001:db8::7"}) {
    const Family family = address(text).family();
    EXPECT_EQ(ask(text).kind, RouteKind::refused);
    EXPECT_EQ(ask(text).error, ENETUNREACH);
    RouteSpec route;
    route.destination = Prefix::everything(family);
    route.table.value = 77;
    route.local = true;
    route.device = "lo";
    ASSERT_TRUE(socket().add_route(route));
    RuleSpec rule;
    rule.family = family;
    rule.priority.value = 50;
    rule.mark = Mark{.value = 5, .mask = 7};
    rule.table.value = 77;
    ASSERT_TRUE(socket().add_rule(rule));
    EXPECT_EQ(ask(text).kind, RouteKind::refused) << "without the mark";
    const RouteAnswer answer = ask(text, 5);
    EXPECT_EQ(answer.kind, RouteKind::local);
    EXPECT_EQ(answer.device, "lo");
    EXPECT_EQ(answer.table.value, 77U);
  }
  EXPECT_FALSE(socket().look_up(
      {.destination = address("192.0.2.7"), .source = {}, .input_interface = "nowhere0", .mark = 0, .user = {}}));
}

}  // namespace
}  // namespace limpid
