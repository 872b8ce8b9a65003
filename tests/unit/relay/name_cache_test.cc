// What is remembered of names: for how long, and how much.
#include "relay/name_cache.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

std::shared_ptr<const ResolvedName> leads_to(const char* address) {
  return std::make_shared<const ResolvedName>(ResolvedName{.addresses = {IpAddress::parse(address).value()}});
}

TEST(NameCache, remembers_until_its_time_is_over) {
  NameCache cache(8);
  const NameKey key{.name = "www.example", .family = Family::ipv4};
  cache.put(key, leads_to("192.0.2.1"), 100);
  ASSERT_NE(cache.find(key, 99), nullptr);
  EXPECT_EQ(cache.find(key, 99)->addresses.front().to_string(), "192.0.2.1");
  EXPECT_EQ(cache.find({.name = "www.example", .family = Family::ipv6}, 99), nullptr) << "each family by itself";
  EXPECT_EQ(cache.find(key, 100), nullptr);
  EXPECT_EQ(cache.size(), 0U);
  cache.put(key, leads_to("192.0.2.1"), 200);
  cache.put(key, leads_to("192.0.2.2"), 300);
  EXPECT_EQ(cache.size(), 1U);
  EXPECT_EQ(cache.find(key, 250)->addresses.front().to_string(), "192.0.2.2");
}

TEST(NameCache, forgets_what_was_used_longest_ago) {
  NameCache cache(3);
  const auto key = [](int number) { return NameKey{.name = std::to_string(number) + ".example"}; };
  for (int number = 0; number < 3; ++number) cache.put(key(number), leads_to("192.0.2.1"), 100);
  ASSERT_NE(cache.find(key(0), 1), nullptr);
  for (int number = 3; number < 5; ++number) cache.put(key(number), leads_to("192.0.2.1"), 100);
  EXPECT_EQ(cache.size(), 3U);
  EXPECT_NE(cache.find(key(0), 1), nullptr);
  EXPECT_EQ(cache.find(key(1), 1), nullptr);
  EXPECT_EQ(cache.find(key(2), 1), nullptr);
  cache.clear();
  EXPECT_EQ(cache.find(key(0), 1), nullptr);
  EXPECT_EQ(cache.size(), 0U);
}

}  // namespace
}  // namespace limpid
