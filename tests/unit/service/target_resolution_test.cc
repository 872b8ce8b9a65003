// Facts about which resolved addresses become targets: never ourselves, and those on this host known as such.
#include "service/target_resolution.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

SocketAddress at(const char* text) {
  return SocketAddress::parse(text).value();
}

OwnAddresses listening(std::initializer_list<const char*> listeners) {
  OwnAddresses own{.listeners = {}, .host = {}};
  for (const char* listener : listeners) own.listeners.push_back(at(listener));
  for (const char* address : {"127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"}) {
    own.host.push_back(IpAddress::parse(address).value());
  }
  return own;
}

TEST(TargetResolution, a_wildcard_listener_is_reached_at_every_address_of_the_host) {
  const auto own = listening({"0.0.0.0:80", "[::]:80"});
  for (const char* self :
       {"127.0.0.1:80", "127.9.9.9:80", "0.0.0.0:80", "192.0.2.1:80", "[::1]:80", "[::]:80", "[2001:db8::1]:80"}) {
    EXPECT_TRUE(reaches_ourselves(at(self), own)) << self;
  }
  for (const char* other : {"127.0.0.1:81", "192.0.2.2:80", "[2001:db8::2]:80"}) {
    EXPECT_FALSE(reaches_ourselves(at(other), own)) << other;
  }
}

TEST(TargetResolution, a_listener_of_one_family_is_not_reached_by_the_other) {
  EXPECT_FALSE(reaches_ourselves(at("[::1]:80"), listening({"0.0.0.0:80"})));
  EXPECT_FALSE(reaches_ourselves(at("127.0.0.1:80"), listening({"[::]:80"})));
}

TEST(TargetResolution, a_listener_on_one_address_leaves_the_others_free) {
  const auto own = listening({"127.0.0.1:80"});
  EXPECT_TRUE(reaches_ourselves(at("127.0.0.1:80"), own));
  EXPECT_TRUE(reaches_ourselves(at("0.0.0.0:80"), own)) << "which means 127.0.0.1";
  EXPECT_FALSE(reaches_ourselves(at("192.0.2.1:80"), own));
  EXPECT_FALSE(reaches_ourselves(at("127.0.0.2:80"), own));
}

TEST(TargetResolution, leaves_ourselves_out_and_keeps_the_rest_in_order) {
  const std::vector<std::vector<SocketAddress>> resolved{{at("192.0.2.1:80"), at("192.0.2.2:80")},
                                                         {at("[2001:db8::1]:80")},
                                                         {at("192.0.2.1:8080"), at("198.51.100.1:80")}};
  const auto selection = select_targets(resolved, listening({"0.0.0.0:80", "[::]:80"}));
  EXPECT_EQ(selection.ourselves, (std::vector{at("192.0.2.1:80"), at("[2001:db8::1]:80")}));
  const TargetGroups expected{{{.address = at("192.0.2.2:80"), .on_this_host = false}},
                              {{.address = at("192.0.2.1:8080"), .on_this_host = true},
                               {.address = at("198.51.100.1:80"), .on_this_host = false}}};
  EXPECT_EQ(selection.groups, expected);
}

TEST(TargetName, is_written_as_users_write_it) {
  EXPECT_EQ((TargetName{.host = "example.org", .port = Port{80}}.to_string()), "example.org:80");
  EXPECT_EQ((TargetName{.host = "2001:db8::1", .port = Port{80}}.to_string()), "[2001:db8::1]:80");
  EXPECT_TRUE((TargetName{.host = "2001:db8::1", .port = Port{80}}.is_address()));
  EXPECT_FALSE((TargetName{.host = "localhost", .port = Port{80}}.is_address()));
}

}  // namespace
}  // namespace limpid
