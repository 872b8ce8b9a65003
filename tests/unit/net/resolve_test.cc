// Facts about addresses as users write hosts; names are another host's business, so none is asked for here.
#include "net/resolve.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Resolve, ipv6_may_stand_in_brackets) {
  EXPECT_EQ(without_brackets("[2001:db8::1]"), "2001:db8::1");
  EXPECT_EQ(without_brackets("[fe80::1%lo]"), "fe80::1%lo");
  const auto found = resolve_host("[2001:db8::1]", Family::ipv6, /*numeric=*/true);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->front().address, IpAddress::parse("2001:db8::1"));
}

TEST(Resolve, other_brackets_stay) {
  for (const auto* text : {"", "[", "[]", "[192.0.2.1]", "[name]", "[2001:db8::1", "2001:db8::1]", "[::1]:80"}) {
    EXPECT_EQ(without_brackets(text), text);
  }
  EXPECT_FALSE(resolve_host("[192.0.2.1]", std::nullopt, /*numeric=*/true));
}

TEST(Resolve, a_literal_address_asks_nobody) {
  const auto plain = literal_address("192.0.2.1");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->address, IpAddress::parse("192.0.2.1"));
  const auto bracketed = literal_address("[::1]");
  ASSERT_TRUE(bracketed);
  EXPECT_EQ(bracketed->address, IpAddress::loopback(Family::ipv6));
  const auto scoped = literal_address("fe80::1%lo");
  ASSERT_TRUE(scoped);
  EXPECT_NE(scoped->scope_id, 0U);
  EXPECT_FALSE(literal_address("www.example.org"));
  EXPECT_FALSE(literal_address("192.0.2.1:80"));
}

TEST(Resolve, a_target_may_have_a_scope) {
  const auto target = resolve_target("[fe80::1%lo]:80");
  ASSERT_TRUE(target) << target.error().message();
  EXPECT_EQ(target->port, Port{80});
  EXPECT_NE(target->scope_id, 0U);
  const auto wrong_port = resolve_target("[fe80::1%lo]:99999");
  ASSERT_FALSE(wrong_port);
  EXPECT_EQ(wrong_port.error().kind, ErrorKind::usage);
}

}  // namespace
}  // namespace limpid
