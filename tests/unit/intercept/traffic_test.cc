// Plans at work: what is captured and what is not, with a client, a router and a server.
#include <fmt/format.h>

#include "intercept/install.h"
#include "intercept/survey.h"
#include "tests/kernel/testbed.h"

namespace limpid {
namespace {

using namespace std::string_view_literals;
using testbed::accept_within;
using testbed::at;
using testbed::client_address;
using testbed::connect_plain;
using testbed::expect_conversation;
using testbed::kSilence;
using testbed::listen_plain;
using testbed::listen_transparent_in;
using testbed::must;
using testbed::Namespace;
using testbed::Network;
using testbed::server_address;

constexpr std::uint16_t kListener = 1080;

InterceptionOptions options(FailMode fail = FailMode::open) {
  InterceptionOptions wanted;
  wanted.scope.tcp = *PortSet::parse("80");
  wanted.listener = Port{kListener};
  wanted.fail = fail;
  return wanted;
}

Plan install_in(const Namespace& where, const InterceptionOptions& wanted) {
  return where.run([&] {
    const auto survey = must(survey_kernel(), "survey");
    Plan plan = make_plan(must(prepare_inputs(survey, wanted, Keeper::process, false), "prepare"));
    must(check_plan(plan), "check");
    must(install_plan(plan), "install");
    return plan;
  });
}

class Traffic : public testbed::NamespaceTest, public ::testing::WithParamInterface<Family> {
 protected:
  Family family() const { return GetParam(); }
  SocketAddress server(std::uint16_t port = 80) const { return at(server_address(family()), port); }
  std::string router_address() const { return family() == Family::ipv4 ? "192.0.2.1" : "2001:db8:1::1"; }

  enum class Outcome : std::uint8_t { intercepted, forwarded, refused, nothing };
  /// What becomes of a connection to `target` with a proxy and a server there.
  static Outcome outcome(const Network& network, const SocketAddress& target, bool with_proxy = true) {
    UniqueFd proxy;
    if (with_proxy) proxy = listen_transparent_in(network.router, target.family(), kListener);
    const UniqueFd there = listen_plain(network.server, target.family(), target.port.value);
    const auto client = connect_plain(network.client, target, kSilence);
    if (!client) return client.error().code == ECONNREFUSED ? Outcome::refused : Outcome::nothing;
    if (const UniqueFd accepted = accept_within(there, Milliseconds(0)); accepted.valid()) {
      expect_conversation(*client, accepted);
      return Outcome::forwarded;
    }
    const UniqueFd accepted = accept_within(proxy);
    if (!accepted.valid()) return Outcome::nothing;
    EXPECT_EQ(original_destination(accepted.get()).value(), target);
    EXPECT_EQ(peer_address(accepted.get()).value().address, at(client_address(target.family()), 0).address);
    expect_conversation(*client, accepted);
    return Outcome::intercepted;
  }
  using Milliseconds = testbed::Milliseconds;
};

TEST_P(Traffic, is_intercepted_in_both_fail_modes) {
  for (const FailMode fail : {FailMode::open, FailMode::closed}) {
    const Network network;
    install_in(network.router, options(fail));
    EXPECT_EQ(outcome(network, server()), Outcome::intercepted);
    EXPECT_EQ(outcome(network, server(81)), Outcome::forwarded) << "another port";
  }
}

TEST_P(Traffic, without_a_proxy_is_forwarded_or_refused_as_declared) {
  const Network open;
  install_in(open.router, options(FailMode::open));
  EXPECT_EQ(outcome(open, server(), false), Outcome::forwarded);
  const Network closed;
  install_in(closed.router, options(FailMode::closed));
  EXPECT_EQ(outcome(closed, server(), false), Outcome::refused);
  EXPECT_EQ(outcome(closed, server(81), false), Outcome::forwarded);
}

TEST_P(Traffic, from_another_interface_or_network_is_forwarded) {
  for (const std::string_view interface : {"lan"sv, "wan"sv, "lanx"sv}) {
    const Network network;
    InterceptionOptions wanted = options();
    wanted.scope.from_interfaces = {std::string(interface)};
    install_in(network.router, wanted);
    EXPECT_EQ(outcome(network, server()), interface == "lan" ? Outcome::intercepted : Outcome::forwarded) << interface;
  }
  const Network network;
  InterceptionOptions wanted = options();
  wanted.scope.from_interfaces = {"wan"};
  for (const auto text : {"192.0.2.0/24"sv, "2001:db8:1::/64"sv})
    wanted.scope.from_prefixes.push_back(*Prefix::parse(text));
  install_in(network.router, wanted);
  EXPECT_EQ(outcome(network, server()), Outcome::intercepted) << "either suffices";
}

TEST_P(Traffic, to_other_or_excluded_networks_is_forwarded) {
  for (const bool excluded : {false, true}) {
    const Network network;
    InterceptionOptions wanted = options(FailMode::closed);
    auto& list = excluded ? wanted.scope.excluded : wanted.scope.to_prefixes;
    for (const auto text : {"198.51.100.0/24"sv, "2001:db8:2::/64"sv}) list.push_back(*Prefix::parse(text));
    install_in(network.router, wanted);
    EXPECT_EQ(outcome(network, server()), excluded ? Outcome::forwarded : Outcome::intercepted);
  }
  const Network network;
  InterceptionOptions wanted = options(FailMode::closed);
  for (const auto text : {"203.0.113.0/24"sv, "2001:db8:f::/48"sv})
    wanted.scope.to_prefixes.push_back(*Prefix::parse(text));
  install_in(network.router, wanted);
  EXPECT_EQ(outcome(network, server()), Outcome::forwarded);
}

TEST_P(Traffic, of_the_other_family_alone_is_left_alone) {
  const Network network;
  InterceptionOptions wanted = options(FailMode::closed);
  (family() == Family::ipv4 ? wanted.scope.ipv4 : wanted.scope.ipv6) = false;
  install_in(network.router, wanted);
  EXPECT_EQ(outcome(network, server()), Outcome::forwarded);
}

TEST_P(Traffic, to_the_router_itself_is_left_alone) {
  const Network network;
  install_in(network.router, options(FailMode::closed));
  const UniqueFd proxy = listen_transparent_in(network.router, family(), kListener);
  const UniqueFd own_service = listen_plain(network.router, family(), 80);
  const auto client = connect_plain(network.client, at(router_address(), 80));
  ASSERT_TRUE(client) << testbed::why(client.error());
  expect_conversation(*client, accept_within(own_service));
}

TEST_P(Traffic, of_connections_that_existed_before_goes_on_when_fail_open) {
  const Network network;
  const UniqueFd there = listen_plain(network.server, family(), 80);
  const auto client = connect_plain(network.client, server());
  ASSERT_TRUE(client);
  const UniqueFd accepted = accept_within(there);
  const UniqueFd proxy = listen_transparent_in(network.router, family(), kListener);
  install_in(network.router, options(FailMode::open));
  expect_conversation(*client, accepted);
}

TEST_P(Traffic, while_draining_established_connections_live_and_new_ones_are_not_captured) {
  for (const FailMode fail : {FailMode::open, FailMode::closed}) {
    const Network network;
    const Plan plan = install_in(network.router, options(fail));
    UniqueFd proxy = listen_transparent_in(network.router, family(), kListener);
    const auto client = connect_plain(network.client, server());
    ASSERT_TRUE(client);
    const UniqueFd accepted = accept_within(proxy);
    network.router.run([&] { must(begin_drain(plan), "drain"); });
    expect_conversation(*client, accepted);
    proxy.reset();
    EXPECT_EQ(outcome(network, server()), fail == FailMode::open ? Outcome::forwarded : Outcome::refused);
    expect_conversation(*client, accepted);
  }
}

TEST_P(Traffic, still_passes_the_chains_of_others) {
  const Network network;
  install_in(network.router, options());
  network.router.nft(
      "table inet other {\n chain late {\n  type filter hook prerouting priority mangle + 5;\n  tcp dport 80 counter\n "
      "}\n"
      " chain input {\n  type filter hook input priority filter;\n  tcp dport 80 drop\n }\n}\n");
  EXPECT_EQ(outcome(network, server()), Outcome::nothing) << "somebody's input chain decides as well";
  EXPECT_EQ(network.router.command("nftables", {"nft", "list", "chain", "inet", "other", "late"}).find("packets 0 "),
            std::string::npos);
}

// Both legs of a flow have the 5-tuple of the client: conntrack, which is on and strict here, must not see them.
TEST_P(Traffic, with_the_clients_port_kept_survives_strict_conntrack) {
  const Network network;
  InterceptionOptions wanted = options(FailMode::closed);
  wanted.keeps_source_port = true;
  const Plan plan = install_in(network.router, wanted);
  std::string strict = "table inet strict {\n";
  for (const std::string hook : {"prerouting", "input", "forward", "output", "postrouting"}) {
    strict += fmt::format(
        " chain {0} {{\n  type filter hook {0} priority filter;\n  ct state invalid counter drop\n }}\n", hook);
  }
  network.router.nft(strict + "}\n");
  const std::uint32_t bypass = plan.inputs.ownership.mark.bypass;
  const UniqueFd proxy = listen_transparent_in(
      network.router, family(), kListener, {.backlog = 16, .reuse_port = false, .mark = bypass, .keepalive_idle = {}});
  const UniqueFd there = listen_plain(network.server, family(), 80);
  const auto client = connect_plain(network.client, server());
  ASSERT_TRUE(client) << testbed::why(client.error());
  const UniqueFd client_leg = accept_within(proxy);
  ASSERT_TRUE(client_leg.valid());
  const SocketAddress source = peer_address(client_leg.get()).value();
  const auto target_leg = network.router.run([&]() -> Result<UniqueFd> {
    auto fd = connect_transparent(server(), {.source = source, .mark = bypass, .keepalive_idle = {}});
    if (!fd) return fd;
    return testbed::established(std::move(*fd), testbed::kPatience);
  });
  ASSERT_TRUE(target_leg) << testbed::why(target_leg.error());
  const UniqueFd accepted = accept_within(there);
  ASSERT_TRUE(accepted.valid());
  EXPECT_EQ(peer_address(accepted.get()).value(), source) << "the server sees the client's address and port";
  expect_conversation(*client, client_leg);
  expect_conversation(*target_leg, accepted);
  const std::string counters = network.router.command("nftables", {"nft", "list", "table", "inet", "strict"});
  EXPECT_EQ(counters.find("packets 1"), std::string::npos) << counters;
}

TEST_P(Traffic, with_thousands_of_networks_is_matched) {
  const Network network;
  InterceptionOptions wanted = options();
  for (unsigned i = 0; i < 5000; ++i) {
    const std::string text = "10." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ".0/25";
    wanted.scope.excluded.push_back(*Prefix::parse(text));
  }
  wanted.scope.excluded.push_back(*Prefix::parse("198.51.100.2"));
  wanted.scope.excluded.push_back(*Prefix::parse("2001:db8:2::2"));
  const Plan plan = install_in(network.router, wanted);
  EXPECT_EQ(outcome(network, server()), Outcome::forwarded);
  EXPECT_EQ(network.router.run([&] { return must(diff_plan(plan), "diff"); }), std::vector<std::string>{});
}

TEST_P(Traffic, ends_with_the_interception_object) {
  const Network network;
  {
    auto interception = network.router.run([&] { return must(Interception::install(options()), "install"); });
    EXPECT_NE(interception.bypass_mark(), 0U);
    EXPECT_EQ(outcome(network, server()), Outcome::intercepted);
    const auto second = network.router.run([&] { return Interception::install(options()); });
    ASSERT_FALSE(second) << "one instance of a name";
    EXPECT_NE(second.error().message().find("pid"), std::string::npos);
    network.router.run([&] { Interception ended = std::move(interception); });
  }
  EXPECT_EQ(outcome(network, server()), Outcome::forwarded);
}

INSTANTIATE_TEST_SUITE_P(Families, Traffic, ::testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

}  // namespace
}  // namespace limpid
