// Facts about the decision for a new flow. Values only.
#include "policy/decision.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace limpid
