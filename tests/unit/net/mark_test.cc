// Packet marks as `ip rule` writes them.
#include "limpid/mark.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Mark, reads_what_ip_rule_reads) {
  EXPECT_EQ(Mark::parse("0x1/0x3").value(), (Mark{1, 3}));
  EXPECT_EQ(Mark::parse("1/3").value(), (Mark{1, 3}));
  EXPECT_EQ(Mark::parse("0X10/0xFF").value(), (Mark{0x10, 0xff}));
  EXPECT_EQ(Mark::parse("1").value(), (Mark{1, 0xffffffff})) << "without a mask, the whole mark is meant";
  EXPECT_EQ(Mark::parse("0xffffffff").value(), (Mark{0xffffffff, 0xffffffff}));
  EXPECT_EQ(Mark::parse("0/0x3").value(), (Mark{0, 3}));
}

TEST(Mark, prints_in_hexadecimal_with_its_mask) {
  EXPECT_EQ((Mark{1, 3}).to_string(), "0x1/0x3");
  EXPECT_EQ((Mark{0x1000000, 0x3000000}).to_string(), "0x1000000/0x3000000");
  EXPECT_EQ((Mark{0, 0xffffffff}).to_string(), "0x0/0xffffffff");
}

TEST(Mark, refuses_everything_else) {
  for (const auto* text : {"",   "/",     "1/", "/1",   "0x",         "0x/0x",       "-1",      "+1", "1/-1", "1 ",
                           " 1", "1/3/5", "g",  "0x1g", "4294967296", "0x100000000", "0x1:0x3", "ff", "0x-1", "0x 1"}) {
    const auto mark = Mark::parse(text);
    ASSERT_FALSE(mark) << text;
    EXPECT_EQ(mark.error().kind, ErrorKind::usage) << text;
    EXPECT_FALSE(mark.error().remedy.empty()) << text;
  }
}

TEST(Mark, a_value_outside_its_mask_is_refused_with_a_mask_that_holds_it) {
  const auto mark = Mark::parse("0x4/0x3");
  ASSERT_FALSE(mark);
  EXPECT_NE(mark.error().remedy.find("0x4/0x7"), std::string::npos) << mark.error().message();
}

}  // namespace
}  // namespace limpid
