// Names, patterns and pages of flows: pages against a slow oracle that sorts everything.
#include "relay/flow_query.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace limpid {
namespace {

FlowView view(std::uint16_t worker, std::uint32_t index, std::uint64_t bytes, std::uint64_t age) {
  FlowView made;
  made.name = {.kind = index % 3 == 0 ? FlowName::Kind::udp : FlowName::Kind::tcp,
               .worker = worker,
               .index = index,
               .generation = 2 * index + 1};
  made.protocol = index % 3 == 0 ? Protocol::udp : Protocol::tcp;
  made.state = "relaying";
  made.bytes_up = bytes;
  made.age_ms = made.idle_ms = age;
  return made;
}

std::vector<std::string> names(const std::vector<FlowView>& views) {
  std::vector<std::string> found;
  for (const FlowView& each : views) found.push_back(each.name.to_string());
  return found;
}

TEST(FlowName, is_read_back_as_it_was_written) {
  for (const char* text : {"t0-17-3", "u3-0-1", "c12", "d192.0.2.2:5000,198.51.100.2:53",
                           "d[2001:db8::2]:5000,[2001:db8:2::2]:53", "t65535-4294967295-4294967295"}) {
    const auto name = FlowName::parse(text);
    ASSERT_TRUE(name) << text;
    EXPECT_EQ(name->to_string(), text);
  }
}

TEST(FlowName, is_refused_where_it_is_none) {
  for (const char* text : {"", "t", "t0", "t0-1", "t0-1-", "t0-1-2-3", "t0-1-2 ", "x0-1-2", "c", "c-1", "c1x", "d",
                           "d1,2", "t65536-0-1", "t0-4294967296-1", "t-1-1-1", "u0-1-\x1b", "d192.0.2.2:1"}) {
    EXPECT_FALSE(FlowName::parse(text)) << text;
  }
}

TEST(AddressPattern, matches_addresses_networks_and_ports) {
  const auto address = *SocketAddress::parse("192.0.2.2:80");
  const auto address6 = *SocketAddress::parse("[2001:db8::2]:80");
  for (const char* text : {"192.0.2.2", "192.0.2.0/24", "192.0.2.2:80", ":80", "0.0.0.0/0"}) {
    const auto pattern = AddressPattern::parse(text);
    ASSERT_TRUE(pattern) << text;
    EXPECT_TRUE(pattern->matches(address)) << text;
  }
  for (const char* text : {"192.0.2.3", "192.0.2.2:81", ":81", "2001:db8::/32", "::/0"}) {
    const auto pattern = AddressPattern::parse(text);
    ASSERT_TRUE(pattern) << text;
    EXPECT_FALSE(pattern->matches(address)) << text;
  }
  EXPECT_TRUE(AddressPattern::parse("2001:db8::/32")->matches(address6));
  EXPECT_TRUE(AddressPattern::parse("[2001:db8::2]:80")->matches(address6));
  EXPECT_TRUE(AddressPattern::parse("::/0")->matches(address6));
  for (const char* text : {"", ":", ":0", ":65536", ":80x", "host", "192.0.2.2/33", "192.0.2.2:", "192.0.2.1/24"})
    EXPECT_FALSE(AddressPattern::parse(text)) << text;
}

TEST(FlowCollection, pages_are_those_of_an_oracle_that_sorts_everything) {
  std::mt19937 dice(7);
  std::vector<FlowView> all;
  for (std::uint32_t i = 0; i < 500; ++i)
    all.push_back(view(static_cast<std::uint16_t>(i % 3), i, dice() % 50, dice() % 50));
  for (const FlowOrder order : {FlowOrder::bytes, FlowOrder::age, FlowOrder::idle, FlowOrder::name}) {
    for (const bool reversed : {false, true}) {
      if (order == FlowOrder::name && reversed) continue;
      for (const std::size_t offset : {0U, 1U, 37U, 495U, 600U}) {
        FlowQuery query;
        query.order = order;
        query.reversed = reversed;
        query.offset = offset;
        query.limit = 23;
        auto sorted = all;
        std::ranges::sort(sorted, [&](const auto& one, const auto& other) { return shown_before(query, one, other); });
        const auto first = std::min(offset, sorted.size());
        const std::vector<FlowView> expected(
            sorted.begin() + static_cast<std::ptrdiff_t>(first),
            sorted.begin() + static_cast<std::ptrdiff_t>(std::min(first + 23, sorted.size())));
        // As the workers do: each its own, then put together. By name they come in order.
        FlowCollection whole(query);
        for (std::uint16_t worker = 0; worker < 3; ++worker) {
          FlowCollection part(query);
          for (const FlowView& each : order == FlowOrder::name ? sorted : all)
            if (each.name.worker == worker && !part.is_full()) part.add(each);
          whole.merge(std::move(part));
        }
        const FlowPage page = make_page(query, whole);
        EXPECT_EQ(names(page.flows), names(expected)) << static_cast<int>(order) << reversed << offset;
        if (order != FlowOrder::name) {
          EXPECT_EQ(page.matched, all.size());
        }
      }
    }
  }
}

TEST(FlowCollection, pages_by_name_show_each_once) {
  std::vector<FlowView> all;
  for (std::uint32_t i = 0; i < 100; ++i) all.push_back(view(static_cast<std::uint16_t>(i % 2), i, 0, 0));
  FlowQuery query;
  query.limit = 7;
  std::vector<std::string> seen;
  for (int pages = 0; pages < 50; ++pages) {
    FlowCollection found(query);
    auto sorted = all;
    std::ranges::sort(sorted, [&](const auto& one, const auto& other) { return shown_before(query, one, other); });
    for (const FlowView& each : sorted)
      if ((!query.after || comes_before(*query.after, each.name)) && !found.is_full()) found.add(each);
    const FlowPage page = make_page(query, found);
    for (const auto& name : names(page.flows)) seen.push_back(name);
    if (!page.next) break;
    query.after = page.next;
  }
  EXPECT_EQ(seen.size(), all.size());
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

TEST(FlowFilter, all_that_is_given_must_match) {
  FlowView flow = view(0, 1, 10, 10);
  flow.client = *SocketAddress::parse("192.0.2.2:5000");
  flow.upstream = "socks5://192.0.2.9:1080";
  Ruling ruling{.learnt = std::make_shared<const Learnt>(Learnt{.name = "www.example.org", .client = {}}), .rule = 3};
  FlowFilter filter;
  EXPECT_TRUE(matches(filter, flow, ruling));
  filter.client = *AddressPattern::parse("192.0.2.0/24");
  filter.rule = 3;
  filter.name = "example.org";
  filter.protocol = Protocol::tcp;
  filter.cut_through = false;
  EXPECT_TRUE(matches(filter, flow, ruling));
  for (const char* name : {"xample.org", "mail.example.org", "org.example"}) {
    FlowFilter other = filter;
    other.name = name;
    EXPECT_FALSE(matches(other, flow, ruling)) << name;
  }
  FlowFilter other = filter;
  other.target = *AddressPattern::parse(":80");
  EXPECT_FALSE(matches(other, flow, ruling)) << "not dialled yet";
  other = filter;
  other.rule = 0;
  EXPECT_FALSE(matches(other, flow, ruling));
  other = filter;
  other.upstream = "direct";
  EXPECT_FALSE(matches(other, flow, ruling));
  other = filter;
  other.state = "connecting";
  EXPECT_FALSE(matches(other, flow, ruling));
}

TEST(DurationHistogram, counts_in_the_bucket_of_the_bound_and_beyond_the_last) {
  DurationHistogram histogram;
  histogram.add(std::chrono::microseconds{0});
  histogram.add(DurationHistogram::kBounds[0]);
  histogram.add(DurationHistogram::kBounds[0] + std::chrono::microseconds{1});
  histogram.add(DurationHistogram::kBounds.back() + std::chrono::seconds{1});
  const auto reading = histogram.read();
  EXPECT_EQ(reading.counts[0], 2U);
  EXPECT_EQ(reading.counts[1], 1U);
  EXPECT_EQ(reading.counts.back(), 1U);
  EXPECT_EQ(reading.sum_us, 500U + 501U + 86'401'000'000U);
}

}  // namespace
}  // namespace limpid
