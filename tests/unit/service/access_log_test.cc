// Access log lines: every field, both formats.
#include "service/access_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace limpid {
namespace {

FlowRecord sample() {
  return {.client = SocketAddress::parse("192.0.2.2:5000").value(),
          .original_destination = SocketAddress::parse("[2001:db8::2]:80").value(),
          .target = SocketAddress::parse("[2001:db8::2]:80").value(),
          .bytes_up = 12,
          .bytes_down = 34,
          .started_us = 1'767'225'600'123'456,
          .duration_us = 56'789,
          .source = SourceMode::address,
          .end = FlowEnd::closed};
}

TEST(AccessLog, logfmt_has_one_line_with_every_field) {
  EXPECT_EQ(
      format_access_line(sample(), LogFormat::logfmt),
      "ts=2026-01-01T00:00:00.123Z proto=tcp client=192.0.2.2:5000 orig_dst=[2001:db8::2]:80 target=[2001:db8::2]:80 "
      "source=address bytes_up=12 bytes_down=34 duration_ms=56 end=closed\n");
}

TEST(AccessLog, json_is_an_object_a_line) {
  const auto line = format_access_line(sample(), LogFormat::json);
  EXPECT_EQ(line.back(), '\n');
  const auto parsed = nlohmann::json::parse(line);
  EXPECT_EQ(parsed.at("client"), "192.0.2.2:5000");
  EXPECT_EQ(parsed.at("bytes_down"), 34);
  EXPECT_EQ(parsed.at("end"), "closed");
  EXPECT_EQ(parsed.at("proto"), "tcp");
  EXPECT_EQ(parsed.size(), 10U);
}

TEST(AccessLog, a_flow_that_left_the_relay_says_so) {
  auto record = sample();
  record.cut_through = true;
  EXPECT_TRUE(format_access_line(record, LogFormat::logfmt).ends_with("end=closed cut_through=yes\n"));
  EXPECT_EQ(nlohmann::json::parse(format_access_line(record, LogFormat::json)).at("cut_through"), "yes");
}

TEST(AccessLog, a_decision_is_told_with_what_it_depended_on) {
  auto record = sample();
  record.ruling.asked = true;
  record.ruling.rule = 3;
  EXPECT_NE(format_access_line(record, LogFormat::logfmt).find(" source=address rule=3 bytes_up=12 "),
            std::string::npos);
  record.ruling.sniffed = true;
  EXPECT_NE(format_access_line(record, LogFormat::logfmt).find(" rule=3 app=unknown name=- bytes_up=12 "),
            std::string::npos);
  record.ruling.learnt = std::make_shared<const Learnt>(Learnt{.name = "www.example.org", .client = {}});
  record.ruling.protocol = AppProtocol::tls;
  const auto parsed = nlohmann::json::parse(format_access_line(record, LogFormat::json));
  EXPECT_EQ(parsed.at("rule"), 3);
  EXPECT_EQ(parsed.at("app"), "tls");
  EXPECT_EQ(parsed.at("name"), "www.example.org");
  EXPECT_FALSE(parsed.contains("name_source"));
  record.ruling.learnt = std::make_shared<const Learnt>(
      Learnt{.name = "www.example.org", .client = {}, .name_source = NameSource::dns_hint});
  EXPECT_NE(format_access_line(record, LogFormat::logfmt).find(" name=www.example.org name_source=dns-hint bytes_up="),
            std::string::npos);
}

TEST(AccessLog, a_refused_flow_has_no_target) {
  auto record = sample();
  record.target = {};
  record.end = FlowEnd::refused_direct;
  const auto line = format_access_line(record, LogFormat::logfmt);
  EXPECT_NE(line.find(" target=- source=- "), std::string::npos) << line;
}

}  // namespace
}  // namespace limpid
