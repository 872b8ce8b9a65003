// Facts about the decision for a new flow. Values only.
#include "policy/decision.h"

#include <gtest/gtest.h>

#include <memory>

namespace limpid {
namespace {

SocketAddress at(const char* text) {
  return SocketAddress::parse(text).value();
}

PolicyOptions options() {
  return {.fixed_target = std::nullopt,
          .source = SourceMode::address,
          .listeners = {at("127.0.0.1:40000"), at("[::1]:40000")}};
}

Decision decide(const PolicyOptions& with, const char* client, const char* original_destination) {
  return Policy(with).decide({.client = at(client), .original_destination = at(original_destination)});
}

TEST(Decision, dials_the_original_destination) {
  const auto decision = decide(options(), "192.0.2.2:5000", "198.51.100.2:80");
  EXPECT_FALSE(decision.refusal);
  EXPECT_EQ(decision.dial.target, at("198.51.100.2:80"));
  EXPECT_EQ(decision.dial.source, SourceMode::address);
}

TEST(Decision, refuses_what_reached_the_listener_directly) {
  EXPECT_EQ(decide(options(), "127.0.0.1:5000", "127.0.0.1:40000").refusal, Refusal::direct);
  EXPECT_EQ(decide(options(), "[::1]:5000", "[::1]:40000").refusal, Refusal::direct);
}

TEST(Decision, the_listeners_port_elsewhere_is_an_ordinary_destination) {
  EXPECT_FALSE(decide(options(), "192.0.2.2:5000", "198.51.100.2:40000").refusal);
}

TEST(Decision, refuses_a_fixed_target_that_is_a_listener_of_ours) {
  auto with = options();
  for (const char* self : {"127.0.0.1:40000", "[::1]:40000", "0.0.0.0:40000", "[::]:40000"}) {
    with.fixed_target = at(self);
    EXPECT_EQ(decide(with, "192.0.2.2:5000", "198.51.100.2:80").refusal, Refusal::self) << self;
  }
}

TEST(Decision, never_dials_addresses_that_mean_this_host_or_this_link) {
  for (const char* forbidden : {"127.0.0.53:80", "0.0.0.0:80", "169.254.169.254:80", "224.0.0.1:80",
                                "255.255.255.255:80", "[::1]:80", "[::]:80", "[fe80::1]:80", "[ff02::1]:80"}) {
    EXPECT_EQ(decide(options(), "192.0.2.2:5000", forbidden).refusal, Refusal::forbidden_target) << forbidden;
  }
}

TEST(Decision, a_fixed_target_may_be_loopback) {
  auto with = options();
  with.fixed_target = at("127.0.0.1:3128");
  const auto decision = decide(with, "192.0.2.2:5000", "198.51.100.2:80");
  EXPECT_FALSE(decision.refusal);
  EXPECT_EQ(decision.dial.target, at("127.0.0.1:3128"));
}

TEST(Decision, the_source_cannot_be_kept_towards_another_family) {
  auto with = options();
  with.fixed_target = at("[2001:db8::1]:80");
  const auto decision = decide(with, "192.0.2.2:5000", "198.51.100.2:80");
  EXPECT_TRUE(decision.dial.source_family_differs);
  EXPECT_EQ(decision.dial.source, SourceMode::none);
}

/// What `limpid relay` asks for: two targets, listeners on every address.
PolicyOptions plain(Arrival arrival) {
  return {.fixed_target = std::nullopt,
          .targets = std::make_shared<TargetList>(TargetGroups{{{.address = at("198.51.100.2:80")}},
                                                               {{.address = at("127.0.0.1:81"), .on_this_host = true}}},
                                                  TargetOrder::as_given),
          .arrival = arrival,
          .source = SourceMode::none,
          .listeners = {at("0.0.0.0:8080"), at("[::]:8080")}};
}

TEST(Decision, a_plain_relay_takes_what_is_dialled_to_it) {
  for (const auto arrival : {Arrival::direct, Arrival::either}) {
    const auto decision = decide(plain(arrival), "192.0.2.2:5000", "192.0.2.1:8080");
    EXPECT_FALSE(decision.refusal);
    EXPECT_EQ(decision.dial.target, at("198.51.100.2:80"));
  }
}

TEST(Decision, a_connection_that_was_dialled_to_a_target_of_ours_went_in_a_circle) {
  const auto direct = plain(Arrival::direct);
  EXPECT_EQ(decide(direct, "192.0.2.1:5000", "198.51.100.2:80").refusal, Refusal::self);
  EXPECT_EQ(decide(direct, "192.0.2.1:5000", "127.0.0.1:81").refusal, Refusal::self) << "whichever of them";
  EXPECT_FALSE(decide(plain(Arrival::either), "192.0.2.2:5000", "198.51.100.2:80").refusal)
      << "tproxy rules may bring what clients dial to the target";
}

TEST(Decision, a_target_that_is_a_listener_of_ours_is_never_dialled) {
  for (const char* self : {"127.0.0.1:8080", "127.1.2.3:8080", "0.0.0.0:8080", "[::1]:8080", "[::]:8080"}) {
    auto with = plain(Arrival::either);
    with.targets->replace({{{.address = at(self)}}});
    EXPECT_EQ(decide(with, "192.0.2.2:5000", "192.0.2.1:8080").refusal, Refusal::self) << self;
    with.targets->replace({{{.address = at("198.51.100.2:80")}}, {{.address = at(self)}}});
    EXPECT_FALSE(Policy(with).next_dial(at("192.0.2.2:5000"), at("198.51.100.2:80"), 1)) << self;
    with.targets->replace(
        {{{.address = at("198.51.100.2:80")}}, {{.address = at(self)}}, {{.address = at("198.51.100.3:80")}}});
    const auto next = Policy(with).next_dial(at("192.0.2.2:5000"), at("198.51.100.2:80"), 1);
    ASSERT_TRUE(next) << self;
    EXPECT_EQ(next->target, at("198.51.100.3:80")) << "the one behind it";
  }
}

TEST(Decision, the_next_target_is_dialled_as_the_client_where_that_is_possible) {
  auto with = plain(Arrival::either);
  with.source = SourceMode::address;
  with.targets->replace({{{.address = at("198.51.100.2:80")}},
                         {{.address = at("[2001:db8::1]:80")}},
                         {{.address = at("127.0.0.1:81"), .on_this_host = true}}});
  const Policy policy(with);
  const auto client = at("192.0.2.2:5000");
  EXPECT_EQ(policy.decide({.client = client, .original_destination = at("192.0.2.1:8080")}).dial.source,
            SourceMode::address);
  const auto other_family = policy.next_dial(client, at("198.51.100.2:80"), 1);
  ASSERT_TRUE(other_family);
  EXPECT_TRUE(other_family->source_family_differs);
  EXPECT_EQ(other_family->source, SourceMode::none);
  const auto local = policy.next_dial(client, other_family->target, 2);
  ASSERT_TRUE(local);
  EXPECT_EQ(local->source, SourceMode::none) << "its answers would not come back to us";
  EXPECT_FALSE(policy.next_dial(client, local->target, 3));
}

TEST(Decision, without_a_list_there_is_no_next_target) {
  EXPECT_FALSE(Policy(options()).next_dial(at("192.0.2.2:5000"), at("198.51.100.2:80"), 1));
}

}  // namespace
}  // namespace limpid
