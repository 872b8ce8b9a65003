// Port lists: parsing, merging, membership against a slow oracle.
#include "limpid/port_set.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace limpid {
namespace {

std::string canonical(std::string_view text) {
  const auto set = PortSet::parse(text);
  return set ? set->to_string() : "error: " + set.error().message();
}

TEST(PortSet, prints_sorted_and_merged) {
  EXPECT_EQ(canonical("80"), "80");
  EXPECT_EQ(canonical("443,80"), "80,443");
  EXPECT_EQ(canonical("80,443,8000-8100"), "80,443,8000-8100");
  EXPECT_EQ(canonical("80,80"), "80");
  EXPECT_EQ(canonical("80-80"), "80");
  EXPECT_EQ(canonical("1-10,5-20"), "1-20");
  EXPECT_EQ(canonical("1-100,5-20"), "1-100");
  EXPECT_EQ(canonical("80-81,82"), "80-82") << "ranges that touch become one";
  EXPECT_EQ(canonical("80,82"), "80,82");
  EXPECT_EQ(canonical("65535,65534"), "65534-65535");
}

TEST(PortSet, all_means_every_port_but_zero) {
  const auto all = PortSet::parse("all").value();
  EXPECT_EQ(all, PortSet::parse("1-65535").value());
  EXPECT_TRUE(all.contains(Port{1}));
  EXPECT_TRUE(all.contains(Port{65535}));
  EXPECT_FALSE(all.contains(Port{0}));
}

TEST(PortSet, refuses_everything_else) {
  for (const auto* text : {"",    ",",       "80,",    ",80",   "80,,443", "0",        "65536", "99999999999", "-80",
                           "+80", "80-",     "-",      "1-2-3", "0-10",    "10-65536", "http",  "0x50",        "80 ",
                           " 80", "80, 443", "80;443", "80:90", "all,80",  "ALL",      "8e1",   "80.0"}) {
    const auto set = PortSet::parse(text);
    ASSERT_FALSE(set) << text;
    EXPECT_EQ(set.error().kind, ErrorKind::usage) << text;
    EXPECT_FALSE(set.error().remedy.empty()) << text;
  }
}

TEST(PortSet, a_backward_range_is_refused_with_the_forward_one) {
  const auto set = PortSet::parse("8100-8000");
  ASSERT_FALSE(set);
  EXPECT_NE(set.error().remedy.find("8000-8100"), std::string::npos) << set.error().message();
}

TEST(PortSet, the_error_names_the_wrong_part) {
  EXPECT_NE(PortSet::parse("80,htp,443").error().message().find("'htp'"), std::string::npos);
}

TEST(PortSet, is_empty_until_something_is_inserted) {
  PortSet set;
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.to_string(), "");
  EXPECT_FALSE(set.contains(Port{80}));
  set.insert({Port{80}, Port{80}});
  EXPECT_FALSE(set.empty());
  EXPECT_EQ(set.ranges().size(), 1U);
}

TEST(PortSet, equal_sets_are_equal_however_they_were_written) {
  EXPECT_EQ(PortSet::parse("1-3").value(), PortSet::parse("3,2,1").value());
  EXPECT_NE(PortSet::parse("1-3").value(), PortSet::parse("1-4").value());
}

TEST(PortSet, agrees_with_a_table_of_all_ports) {
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same cases every time
  for (int round = 0; round < 200; ++round) {
    PortSet set;
    std::vector<bool> oracle(65536);
    for (int count = 0; count < 12; ++count) {
      // Close together and at the upper end, so that ranges overlap, touch and end at 65535.
      const unsigned first = 65536U - static_cast<unsigned>(random() % 200) - 1;
      const unsigned last = std::min(65535U, first + static_cast<unsigned>(random() % 20));
      set.insert({Port{static_cast<std::uint16_t>(first)}, Port{static_cast<std::uint16_t>(last)}});
      for (unsigned port = first; port <= last; ++port) oracle[port] = true;
    }
    for (unsigned port = 65000; port < 65536; ++port) {
      ASSERT_EQ(set.contains(Port{static_cast<std::uint16_t>(port)}), oracle[port]) << set.to_string() << ' ' << port;
    }
    const auto ranges = set.ranges();
    for (std::size_t index = 1; index < ranges.size(); ++index) {
      ASSERT_GT(ranges[index].first.value, ranges[index - 1].last.value + 1) << set.to_string();
    }
    ASSERT_EQ(PortSet::parse(set.to_string()).value(), set);
  }
}

}  // namespace
}  // namespace limpid
