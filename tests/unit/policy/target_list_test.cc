// Facts about the list of targets: order, turns, and what happens to flows in the middle of their attempts when it is replaced.
#include "policy/target_list.h"

#include <gtest/gtest.h>

#include <thread>

namespace limpid {
namespace {

SocketAddress at(const char* text) {
  return SocketAddress::parse(text).value();
}

std::vector<Target> host(std::initializer_list<const char*> addresses) {
  std::vector<Target> targets;
  for (const char* address : addresses) targets.push_back({.address = at(address)});
  return targets;
}

/// Every address that a flow dials whose attempts all fail.
std::vector<SocketAddress> walk(TargetList& list) {
  std::vector<SocketAddress> dialled;
  std::optional<Target> target = list.first();
  while (target) {
    dialled.push_back(target->address);
    target = list.after(dialled.back(), static_cast<unsigned>(dialled.size()));
  }
  return dialled;
}

std::vector<SocketAddress> addresses(std::initializer_list<const char*> texts) {
  std::vector<SocketAddress> result;
  for (const char* text : texts) result.push_back(at(text));
  return result;
}

TEST(TargetList, tries_hosts_and_their_addresses_in_order) {
  TargetList list({host({"192.0.2.1:80", "[2001:db8::1]:80"}), host({"192.0.2.2:80"})}, TargetOrder::as_given);
  const auto all = addresses({"192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.2:80"});
  EXPECT_EQ(walk(list), all);
  EXPECT_EQ(walk(list), all) << "the second flow begins where the first one did";
}

TEST(TargetList, one_target_is_tried_once) {
  TargetList list({host({"192.0.2.1:80"})}, TargetOrder::as_given);
  EXPECT_EQ(walk(list).size(), 1U);
}

TEST(TargetList, the_same_address_of_two_names_is_tried_once) {
  TargetList list({host({"192.0.2.1:80"}), host({"192.0.2.1:80", "192.0.2.2:80"})}, TargetOrder::as_given);
  EXPECT_EQ(walk(list), addresses({"192.0.2.1:80", "192.0.2.2:80"}));
  TargetList other_port({host({"192.0.2.1:80"}), host({"192.0.2.1:81"})}, TargetOrder::as_given);
  EXPECT_EQ(walk(other_port).size(), 2U);
}

TEST(TargetList, round_robin_takes_turns_over_hosts_not_over_their_addresses) {
  TargetList list({host({"192.0.2.1:80", "[2001:db8::1]:80"}), host({"192.0.2.2:80"})}, TargetOrder::round_robin);
  EXPECT_EQ(walk(list), addresses({"192.0.2.1:80", "[2001:db8::1]:80", "192.0.2.2:80"}));
  EXPECT_EQ(walk(list), addresses({"192.0.2.2:80", "192.0.2.1:80", "[2001:db8::1]:80"}));
  EXPECT_EQ(list.first().address, at("192.0.2.1:80"));
}

TEST(TargetList, a_host_that_repeats_others_takes_no_turn) {
  TargetList list({host({"192.0.2.1:80"}), host({"192.0.2.1:80"}), host({"192.0.2.2:80"})}, TargetOrder::round_robin);
  EXPECT_EQ(list.first().address, at("192.0.2.1:80"));
  EXPECT_EQ(list.first().address, at("192.0.2.2:80"));
  EXPECT_EQ(list.first().address, at("192.0.2.1:80"));
}

TEST(TargetList, new_flows_see_what_replaced_it) {
  TargetList list({host({"192.0.2.1:80"})}, TargetOrder::as_given);
  EXPECT_TRUE(list.contains(at("192.0.2.1:80")));
  list.replace({host({"192.0.2.9:80"})});
  EXPECT_EQ(list.first().address, at("192.0.2.9:80"));
  EXPECT_FALSE(list.contains(at("192.0.2.1:80")));
}

TEST(TargetList, a_flow_whose_address_is_gone_goes_on_with_the_new_ones) {
  TargetList list({host({"192.0.2.1:80", "192.0.2.2:80"})}, TargetOrder::as_given);
  const auto failed = list.first().address;
  list.replace({host({"192.0.2.8:80", "192.0.2.9:80"})});
  const auto next = list.after(failed, 1);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->address, at("192.0.2.8:80"));
  EXPECT_FALSE(list.after(next->address, 2)) << "attempts are bounded by the length of the list, whatever it becomes";
}

TEST(TargetList, is_replaced_while_others_read) {
  TargetList list({host({"192.0.2.1:80"})}, TargetOrder::round_robin);
  std::jthread writer([&](const std::stop_token& stop) {
    for (int i = 0; !stop.stop_requested(); ++i) {
      list.replace(i % 2 == 0 ? TargetGroups{host({"192.0.2.1:80"}), host({"192.0.2.2:80", "192.0.2.3:80"})}
                              : TargetGroups{host({"192.0.2.1:80"})});
    }
  });
  for (int i = 0; i < 20'000; ++i) {
    const auto dialled = walk(list);
    ASSERT_GE(dialled.size(), 1U);
    ASSERT_LE(dialled.size(), 3U);
  }
}

}  // namespace
}  // namespace limpid
