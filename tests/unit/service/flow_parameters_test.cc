// Arguments of GET /v1/flows: what is not known is refused.
#include "service/flow_parameters.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace limpid {
namespace {

TEST(FlowParameters, are_read) {
  const auto query = parse_flow_query({{"client", "192.0.2.0/24"},
                                       {"name", "Example.ORG"},
                                       {"rule", "0"},
                                       {"sort", "-idle"},
                                       {"limit", "1000"},
                                       {"offset", "10000"},
                                       {"cut_through", "no"},
                                       {"protocol", "udp"}});
  ASSERT_TRUE(query);
  EXPECT_EQ(query->order, FlowOrder::idle);
  EXPECT_TRUE(query->reversed);
  EXPECT_EQ(query->filter.name, "example.org");
  EXPECT_EQ(query->filter.rule, 0U);
  EXPECT_EQ(query->filter.cut_through, false);
  EXPECT_EQ(query->most_kept(), 11'000U);
}

TEST(FlowParameters, are_refused_where_they_mean_nothing) {
  const std::vector<std::map<std::string, std::string, std::less<>>> wrong{
      {{"clinet", "::1"}}, {{"limit", "0"}},     {{"limit", "1001"}},   {{"limit", "-1"}},
      {{"offset", "1e3"}}, {{"sort", "-id"}},    {{"sort", ""}},        {{"protocol", "icmp"}},
      {{"state", "x"}},    {{"after", "nope"}},  {{"cut_through", ""}}, {{"after", "t0-1-1"}, {"sort", "age"}},
      {{"rule", " 1"}},    {{"client", "a\x1b"}}};
  for (const auto& arguments : wrong) EXPECT_FALSE(parse_flow_query(arguments)) << arguments.begin()->first;
}

TEST(FlowParameters, one_flow_is_told_with_its_legs) {
  const auto at = [](const char* text) { return SocketAddress::parse(text).value(); };
  FlowView view;
  view.name = FlowName::parse("t0-1-1").value();
  view.client = at("192.0.2.2:5000");
  view.original_destination = at("198.51.100.2:80");
  view.legs = FlowLegs{.client = {.local = view.original_destination, .remote = view.client}};
  auto json = nlohmann::json::parse(to_json(view));
  EXPECT_EQ(json["flow"]["id"], "t0-1-1");
  EXPECT_EQ(json["flow"]["legs"]["client"],
            (nlohmann::json{{"local", "198.51.100.2:80"}, {"remote", "192.0.2.2:5000"}}));
  EXPECT_TRUE(json["flow"]["legs"]["target"].is_null());
  view.legs->target = LegAddresses{.local = at("0.0.0.0:7000"), .remote = {}};
  json = nlohmann::json::parse(to_json(view));
  EXPECT_EQ(json["flow"]["legs"]["target"]["local"], "0.0.0.0:7000");
  EXPECT_TRUE(json["flow"]["legs"]["target"]["remote"].is_null()) << "whoever its client writes to";
}

}  // namespace
}  // namespace limpid
