// Facts about all groups together: what is refused, and what a replacement keeps.
#include "upstream/groups.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

UpstreamGroupOptions group(const std::string& name, std::initializer_list<const char*> urls,
                           const std::string& via = "") {
  UpstreamGroupOptions options;
  options.name = name;
  for (const char* url : urls) options.members.push_back(parse_upstream(url).value());
  options.via = via;
  return options;
}

std::string cause_of(const Status& status) {
  return status ? "" : status.error().cause;
}

TEST(UpstreamGroups, are_found_by_name) {
  UpstreamGroups groups;
  ASSERT_TRUE(groups.put_to_work({group("office", {"socks5://10.0.0.1"}), group("lab", {"http://10.0.0.2"})}));
  EXPECT_EQ(groups.at(groups.find("office")).options().name, "office");
  EXPECT_EQ(groups.at(groups.find("lab")).options().name, "lab");
  EXPECT_EQ(groups.find("home"), 0);
}

TEST(UpstreamGroups, two_of_one_name_are_refused_and_nothing_changes) {
  UpstreamGroups groups;
  ASSERT_TRUE(groups.put_to_work({group("office", {"socks5://10.0.0.1"})}));
  EXPECT_FALSE(groups.put_to_work({group("home", {"socks5://10.0.0.1"}), group("home", {"socks5://10.0.0.2"})}));
  EXPECT_FALSE(groups.put_to_work({group("home", {"socks5://10.0.0.1", "socks5://10.0.0.1"})})) << "two members";
  EXPECT_FALSE(groups.put_to_work({group("home", {})})) << "no member";
  EXPECT_NE(groups.find("office"), 0);
  EXPECT_EQ(groups.find("home"), 0);
}

TEST(UpstreamGroups, one_that_stays_keeps_its_number_and_one_that_changes_gets_another) {
  UpstreamGroups groups;
  ASSERT_TRUE(groups.put_to_work({group("office", {"socks5://10.0.0.1"}), group("lab", {"http://10.0.0.2"})}));
  const auto office = groups.find("office");
  const auto lab = groups.find("lab");
  UpstreamGroup& old = groups.at(lab);
  for (int i = 0; i < 3; ++i) groups.at(office).failed(0, 0);
  ASSERT_TRUE(groups.put_to_work({group("lab", {"http://10.0.0.3"}), group("office", {"socks5://10.0.0.1"})}));
  EXPECT_EQ(groups.find("office"), office);
  EXPECT_FALSE(groups.at(office).state(0).up) << "what was known of it is still known";
  EXPECT_NE(groups.find("lab"), lab);
  EXPECT_EQ(old.server(0)->address.to_string(), "10.0.0.2:3128") << "flows that have begun still use it";
  ASSERT_TRUE(groups.put_to_work({group("lab", {"http://10.0.0.2"})}));
  EXPECT_EQ(groups.find("lab"), lab) << "back to what it was: the numbers do not run out";
  EXPECT_EQ(groups.find("office"), 0);
}

TEST(UpstreamGroups, members_that_stay_keep_their_health_in_a_group_that_changes) {
  UpstreamGroups groups;
  ASSERT_TRUE(groups.put_to_work({group("office", {"socks5://10.0.0.1", "socks5://10.0.0.2"})}));
  UpstreamGroup& before = groups.at(groups.find("office"));
  for (int i = 0; i < 3; ++i) before.failed(1, 0);
  before.succeeded(0, 700);
  ASSERT_TRUE(groups.put_to_work({group("office", {"socks5://10.0.0.3", "socks5://10.0.0.2", "socks5://10.0.0.1"})}));
  const UpstreamGroup& after = groups.at(groups.find("office"));
  EXPECT_TRUE(after.state(0).up);
  EXPECT_FALSE(after.state(1).up);
  EXPECT_EQ(after.state(1).failures, 3U);
  EXPECT_EQ(after.state(2).latency_us, 700U);
}

TEST(UpstreamGroups, another_address_of_a_name_makes_no_other_group) {
  auto options = group("office", {"socks5://proxy.example"});
  options.members[0].server = SocketAddress::parse("10.0.0.1:1080").value();
  UpstreamGroups groups;
  ASSERT_TRUE(groups.put_to_work({options}));
  const auto number = groups.find("office");
  options.members[0].server = SocketAddress::parse("10.0.0.9:1080").value();
  ASSERT_TRUE(groups.put_to_work({options}));
  EXPECT_EQ(groups.find("office"), number);
  EXPECT_EQ(groups.at(number).server(0)->address.to_string(), "10.0.0.9:1080");
}

TEST(UpstreamGroups, a_server_moves_while_others_look_at_it) {
  UpstreamGroup moving(group("office", {"socks5://10.0.0.1"}));
  const UpstreamServer* first = moving.server(0);
  const UpstreamServer second{.address = SocketAddress::parse("10.0.0.2:1080").value()};
  EXPECT_TRUE(moving.move_server(0, second));
  EXPECT_FALSE(moving.move_server(0, second)) << "it is there";
  EXPECT_EQ(first->address.to_string(), "10.0.0.1:1080") << "whoever still has it, has it";
  EXPECT_EQ(moving.server(0)->address, second.address);
  EXPECT_TRUE(moving.move_server(0, {.address = first->address}));
  EXPECT_EQ(moving.server(0), first) << "and back, without another copy";
}

TEST(UpstreamGroups, chains_have_two_links) {
  UpstreamGroups groups;
  // The order in a file does not matter.
  ASSERT_TRUE(groups.put_to_work({group("far", {"socks5://10.1.0.1"}, "near"), group("near", {"http://10.0.0.1"})}));
  EXPECT_EQ(groups.at(groups.find("far")).via(), &groups.at(groups.find("near")));
  const auto far = groups.find("far");
  // Another way there is another group.
  ASSERT_TRUE(groups.put_to_work({group("far", {"socks5://10.1.0.1"}, "near"), group("near", {"http://10.0.0.2"})}));
  EXPECT_NE(groups.find("far"), far);
  EXPECT_EQ(groups.at(groups.find("far")).via(), &groups.at(groups.find("near")));

  const auto wrong = [&](std::vector<UpstreamGroupOptions> all) {
    return cause_of(groups.put_to_work(std::move(all)));
  };
  EXPECT_EQ(wrong({group("far", {"socks5://10.1.0.1"}, "near")}), "there is no group of upstreams of this name");
  EXPECT_NE(wrong({group("far", {"socks5://10.1.0.1"}, "far")}), "") << "itself";
  EXPECT_NE(wrong({group("a", {"socks5://10.1.0.1"}, "b"), group("b", {"http://10.0.0.1"}, "c"),
                   group("c", {"http://10.0.0.2"})}),
            "")
      << "three";
  EXPECT_NE(wrong({group("far", {"socks5://10.1.0.1"}, "near"), group("near", {"tcp://10.0.0.1:80"})}), "");
  EXPECT_NE(wrong({group("far", {"direct://"}, "near"), group("near", {"http://10.0.0.1"})}), "");
  EXPECT_NE(wrong({group("far", {"socks5://10.1.0.1?mark=5"}, "near"), group("near", {"http://10.0.0.1"})}), "");
}

TEST(UpstreamGroups, chains_carry_no_datagrams) {
  UpstreamGroups groups;
  ASSERT_TRUE(groups.put_to_work({group("far", {"socks5://10.1.0.1"}, "near"), group("near", {"socks5://10.0.0.1"})}));
  UpstreamGroup::Question question{.client = IpAddress::parse("192.0.2.2").value(),
                                   .destination = SocketAddress::parse("198.51.100.2:80").value(),
                                   .datagrams = true};
  EXPECT_FALSE(groups.at(groups.find("far")).choose(question, 0));
  EXPECT_TRUE(groups.at(groups.find("near")).choose(question, 0));
}

TEST(UpstreamGroups, only_what_can_be_asked_is_checked) {
  auto options = group("office", {"socks5://10.0.0.1", "direct://", "proxy-v2://"});
  const UpstreamGroup plain(options);
  EXPECT_TRUE(plain.is_checked(0));
  EXPECT_FALSE(plain.is_checked(1));
  options.check_target = CheckTarget{.address = SocketAddress::parse("198.51.100.2:443").value(), .name = {}};
  const UpstreamGroup with_target(options);
  EXPECT_TRUE(with_target.is_checked(1)) << "the target by its interface";
  EXPECT_FALSE(with_target.is_checked(2));
  options.check_interval = std::chrono::milliseconds{0};
  EXPECT_FALSE(UpstreamGroup(options).is_checked(0));
}

}  // namespace
}  // namespace limpid
