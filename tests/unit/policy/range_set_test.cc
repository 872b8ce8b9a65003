// Facts about sets of ranges, each operation beside a slow oracle: a bit for each number.
#include "policy/range_set.h"

#include <gtest/gtest.h>

#include <bitset>
#include <random>

namespace limpid {
namespace {

constexpr unsigned kLast = 63;
using Oracle = std::bitset<kLast + 1>;

RangeSet set_of(const Oracle& bits) {
  std::vector<WideRange> ranges;
  for (unsigned i = 0; i <= kLast; ++i) {
    if (bits[i]) ranges.push_back({.first = i, .last = i});
  }
  return RangeSet(std::move(ranges));
}

Oracle bits_of(const RangeSet& set) {
  Oracle bits;
  for (unsigned i = 0; i <= kLast; ++i) bits[i] = set.contains(i);
  return bits;
}

TEST(RangeSet, agrees_with_a_bit_for_each_number) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const Oracle one(random() & random());
    const Oracle other(random() | random());
    const RangeSet a = set_of(one);
    const RangeSet b = set_of(other);
    ASSERT_EQ(bits_of(a), one);
    ASSERT_EQ(bits_of(a.united(b)), one | other);
    ASSERT_EQ(bits_of(a.intersected(b)), one & other);
    ASSERT_EQ(bits_of(a.complement(kLast)), ~one);
    ASSERT_EQ(a.covers(b), (other & ~one).none());
    ASSERT_TRUE(a.united(b).covers(b));
    ASSERT_EQ(a.complement(kLast).complement(kLast), a);
  }
}

TEST(RangeSet, merges_what_overlaps_or_touches) {
  const RangeSet set({{.first = 5, .last = 9},
                      {.first = 0, .last = 3},
                      {.first = 4, .last = 4},
                      {.first = 20, .last = ~Wide{0}},
                      {.first = 30, .last = 40}});
  ASSERT_EQ(set.ranges().size(), 2U);
  EXPECT_EQ(set.ranges()[0], (WideRange{.first = 0, .last = 9}));
  EXPECT_EQ(set.ranges()[1], (WideRange{.first = 20, .last = ~Wide{0}}));
}

TEST(RangeSet, holds_networks_of_both_families_apart) {
  const std::vector<Prefix> prefixes{Prefix::parse("10.0.0.0/8").value(), Prefix::parse("2001:db8::/32").value(),
                                     Prefix::parse("0.0.0.0/32").value()};
  const RangeSet set{std::span(prefixes)};
  const auto holds = [&](const char* text) { return set.contains(to_wide(IpAddress::parse(text).value())); };
  EXPECT_TRUE(holds("10.0.0.0"));
  EXPECT_TRUE(holds("10.255.255.255"));
  EXPECT_FALSE(holds("11.0.0.0"));
  EXPECT_FALSE(holds("9.255.255.255"));
  EXPECT_TRUE(holds("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
  EXPECT_FALSE(holds("2001:db9::"));
  EXPECT_TRUE(holds("0.0.0.0"));
  EXPECT_FALSE(holds("::"));
}

TEST(RangeSet, everything_has_no_complement) {
  EXPECT_TRUE(RangeSet::all_addresses().complement(~Wide{0}).empty());
  EXPECT_EQ(RangeSet().complement(~Wide{0}), RangeSet::all_addresses());
  const std::vector<Prefix> all{Prefix::everything(Family::ipv6), Prefix::everything(Family::ipv4)};
  EXPECT_EQ(RangeSet{std::span(all)}, RangeSet::all_addresses());
}

TEST(RangeSet, a_network_of_ipv6_is_not_ipv4_whatever_is_in_its_midst) {
  const auto set_of_network = [](const char* text) {
    const std::vector<Prefix> one{Prefix::parse(text).value()};
    return RangeSet{std::span(one)};
  };
  const auto is_in = [](const RangeSet& set, const char* text) {
    return set.contains(to_wide(IpAddress::parse(text).value()));
  };
  for (const char* network : {"::/0", "::/64", "::/80", "::/1"}) {
    const RangeSet set = set_of_network(network);
    EXPECT_TRUE(is_in(set, "::1")) << network;
    EXPECT_FALSE(is_in(set, "0.0.0.0")) << network;
    EXPECT_FALSE(is_in(set, "192.0.2.1")) << network;
    EXPECT_FALSE(is_in(set, "255.255.255.255")) << network;
  }
  EXPECT_TRUE(is_in(set_of_network("::/0"), "2001:db8::1"));
  EXPECT_TRUE(set_of_network("::ffff:0:0/96").empty());
  EXPECT_EQ(to_prefixes(set_of_network("::/0")), std::vector{Prefix::everything(Family::ipv6)});
}

TEST(RangeSet, finds_each_of_a_hundred_thousand_networks_and_nothing_between) {
  std::vector<Prefix> prefixes;
  prefixes.reserve(100'000);
  for (std::uint32_t i = 0; i < 100'000; ++i) {  // every second /25
    const std::uint32_t base = (1U << 24U) + i * 256;
    prefixes.push_back(Prefix::parse(IpAddress::from_bytes(Family::ipv4, {static_cast<std::uint8_t>(base >> 24U),
                                                                          static_cast<std::uint8_t>(base >> 16U),
                                                                          static_cast<std::uint8_t>(base >> 8U), 0})
                                         .to_string() +
                                     "/25")
                           .value());
  }
  const RangeSet set{std::span(prefixes)};
  ASSERT_EQ(set.ranges().size(), prefixes.size());
  for (const Prefix& prefix : prefixes) {
    const Wide first = to_wide(prefix.network());
    ASSERT_TRUE(set.contains(first) && set.contains(first + 127));
    ASSERT_FALSE(set.contains(first + 128) || set.contains(first + 255));
  }
}

std::vector<std::string> networks_of(std::initializer_list<std::string_view> prefixes, bool others = false) {
  std::vector<Prefix> parsed;
  for (const std::string_view text : prefixes) parsed.push_back(Prefix::parse(text).value());
  const RangeSet set{std::span<const Prefix>(parsed)};
  std::vector<std::string> texts;
  for (const Prefix& prefix : to_prefixes(others ? set.complement(~Wide{0}) : set)) texts.push_back(prefix.to_string());
  return texts;
}

TEST(RangeSet, is_written_as_networks) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(networks_of({}), Texts{});
  EXPECT_EQ(networks_of({"10.0.0.0/8"}), Texts{"10.0.0.0/8"});
  EXPECT_EQ(networks_of({"10.0.0.0/9", "10.128.0.0/9", "2001:db8::1"}), (Texts{"10.0.0.0/8", "2001:db8::1/128"}));
  EXPECT_EQ(networks_of({"0.0.0.0/0"}), Texts{"0.0.0.0/0"});
  EXPECT_EQ(networks_of({"::/0"}), Texts{"::/0"});
  EXPECT_EQ(networks_of({}, true), (Texts{"0.0.0.0/0", "::/0"}));
  EXPECT_EQ(networks_of({"128.0.0.0/1"}, true), (Texts{"0.0.0.0/1", "::/0"}));
  EXPECT_EQ(networks_of({"192.0.2.1"}, true).size(), 33U) << "32 of IPv4, and all of IPv6";
  EXPECT_EQ(networks_of({"255.255.255.255", "0.0.0.0"}), (Texts{"0.0.0.0/32", "255.255.255.255/32"}));
}

}  // namespace
}  // namespace limpid
