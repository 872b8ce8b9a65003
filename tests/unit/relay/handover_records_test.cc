// What one process writes of a flow, another reads as it was; and nothing else passes for a flow.
#include "relay/handover_records.h"

#include <gtest/gtest.h>

#include <random>

namespace limpid {
namespace {

SocketAddress address(const char* text) {
  return *SocketAddress::parse(text);
}

Ruling full_ruling() {
  auto learnt = std::make_shared<Learnt>();
  learnt->name = "www.example";
  learnt->name_source = NameSource::dns_hint;
  learnt->client.known.bits = 63;
  learnt->client.interface = "lan";
  learnt->client.dscp = 46;
  learnt->client.mac = MacAddress{1, 2, 3, 4, 5, 6};
  learnt->client.user = 1000;
  learnt->client.cgroup = "/user.slice";
  learnt->client.process = ClientProcess{.group = 7, .executable = "/usr/bin/curl"};
  return {.learnt = std::move(learnt),
          .rule = 3,
          .protocol = AppProtocol::tls,
          .asked = true,
          .sniffed = true,
          .ech = true};
}

/// A relaying flow; its descriptors are never used.
Flow relaying_flow() {
  Flow flow;
  flow.client.fd = UniqueFd(1001);
  flow.target.fd = UniqueFd(1002);
  flow.client.readable = flow.client.urgent = true;
  flow.target.writable = flow.target.hangup = true;
  flow.client_address = address("192.0.2.2:1234");
  flow.original_destination = address("[2001:db8::1]:80");
  flow.target_address = address("[fe80::1]:8080");
  flow.target_address.scope_id = 3;
  flow.started_ms = 1;
  flow.last_activity_ms = 0xffff'ffff'ff;
  flow.give_up_ms = 5;
  flow.up.bytes = 1ULL << 50U;
  flow.up.burst = 77;
  flow.up.source_end = SourceEnd::finished;
  flow.up.done = true;
  flow.down.bytes = 2;
  flow.down.piped = 4096;
  flow.down.pipe = {.read_end = UniqueFd(1003), .write_end = UniqueFd(1004)};
  flow.ruling = full_ruling();
  flow.state = FlowState::relaying;
  flow.end = FlowEnd::killed;
  flow.source = SourceMode::prefer_port;
  flow.queued = flow.movable = true;
  flow.offload_attempts = 9;
  flow.attempts = 2;
  flow.sent_with_syn = 512;
  flow.linger_delay_ms = 16;
  return flow;
}

/// They are numbers only: nothing is to be closed.
void forget_descriptors(Flow& flow) {
  for (UniqueFd* fd : {&flow.client.fd, &flow.target.fd, &flow.down.pipe.read_end, &flow.down.pipe.write_end})
    std::ignore = fd->release();
}

struct Written {
  std::vector<std::byte> bytes;
  std::vector<int> descriptors;
};

Written write(const Flow& flow) {
  Written written;
  RecordWriter writer(written.bytes);
  write_flow(writer, flow, written.descriptors);
  return written;
}

TEST(HandoverRecords, a_flow_is_read_as_it_was_written) {
  Flow flow = relaying_flow();
  const auto written = write(flow);
  EXPECT_EQ(written.descriptors, (std::vector<int>{1001, 1002, 1003, 1004}));
  RecordReader reader(written.bytes);
  const auto handed = read_flow(reader);
  ASSERT_TRUE(handed);
  EXPECT_TRUE(reader.empty());
  EXPECT_TRUE(handed->has_client && handed->has_target && !handed->has_pipe_up && handed->has_pipe_down);
  const Flow& read = handed->flow;
  EXPECT_EQ(read.state, FlowState::relaying);
  EXPECT_EQ(read.client_address, flow.client_address);
  EXPECT_EQ(read.original_destination, flow.original_destination);
  EXPECT_EQ(read.target_address, flow.target_address);
  EXPECT_EQ(read.started_ms, flow.started_ms);
  EXPECT_EQ(read.last_activity_ms, flow.last_activity_ms);
  EXPECT_EQ(read.up.bytes, flow.up.bytes);
  EXPECT_EQ(read.up.source_end, SourceEnd::finished);
  EXPECT_TRUE(read.up.done && !read.down.done);
  EXPECT_EQ(read.down.piped, 4096U);
  EXPECT_TRUE(read.client.readable && read.client.urgent && !read.client.writable && !read.client.hangup &&
              !read.client.reset);
  EXPECT_TRUE(read.target.writable && read.target.hangup && !read.target.readable);
  EXPECT_EQ(read.end, FlowEnd::killed);
  EXPECT_EQ(read.source, SourceMode::prefer_port);
  EXPECT_TRUE(read.queued && read.movable && !read.held && !read.routed_otherwise);
  EXPECT_EQ(read.offload_attempts, 9);
  EXPECT_EQ(read.sent_with_syn, 512);
  ASSERT_TRUE(read.ruling.learnt);
  EXPECT_EQ(read.ruling.rule, 3U);
  EXPECT_EQ(read.ruling.name(), "www.example");
  EXPECT_TRUE(read.ruling.has_hint());
  EXPECT_EQ(read.ruling.learnt->client.mac, flow.ruling.learnt->client.mac);
  EXPECT_EQ(read.ruling.learnt->client.process, flow.ruling.learnt->client.process);
  EXPECT_EQ(read.ruling.learnt->client.user, 1000U);
  forget_descriptors(flow);
}

TEST(HandoverRecords, whose_bytes_still_wait_in_its_socket_begins_anew) {
  for (const auto& [state, expected] :
       {std::pair{FlowState::introducing, FlowState::introducing}, std::pair{FlowState::deciding, FlowState::deciding},
        std::pair{FlowState::resolving, FlowState::deciding}, std::pair{FlowState::handshaking, FlowState::deciding}}) {
    Flow flow = relaying_flow();
    flow.state = state;
    const auto written = write(flow);
    EXPECT_EQ(written.descriptors, std::vector<int>{1001});
    RecordReader reader(written.bytes);
    const auto handed = read_flow(reader);
    ASSERT_TRUE(handed);
    EXPECT_TRUE(reader.empty());
    EXPECT_EQ(handed->flow.state, expected);
    EXPECT_EQ(handed->flow.client_address, flow.client_address);
    EXPECT_FALSE(handed->has_target);
    forget_descriptors(flow);
  }
}

TEST(HandoverRecords, a_session_is_read_as_it_was_written) {
  UdpSession session;
  session.fd = UniqueFd(1001);
  session.key = {.client = address("192.0.2.2:1234"), .destination = {}};
  session.original_destination = address("198.51.100.2:53");
  session.target = address("198.51.100.3:53");
  session.bytes_up = 10;
  session.bytes_down = 20;
  session.started_ms = 30;
  session.last_activity_ms = 40;
  session.contacted = {address("198.51.100.3:53"), address("[2001:db8::1]:80")};
  session.exchange = {.partner = address("198.51.100.4:53"), .datagrams = 5, .asked = true, .answered = false};
  session.ruling = full_ruling();
  session.source = SourceMode::address;
  session.answered = session.fixed_target = session.cut = true;
  std::vector<std::byte> bytes;
  std::vector<int> descriptors;
  RecordWriter writer(bytes);
  write_session(writer, session, descriptors);
  EXPECT_EQ(descriptors, std::vector<int>{1001});
  RecordReader reader(bytes);
  const auto handed = read_session(reader);
  ASSERT_TRUE(handed);
  EXPECT_TRUE(reader.empty());
  EXPECT_EQ(handed->session.key, session.key);
  EXPECT_EQ(handed->session.contacted, session.contacted);
  EXPECT_EQ(handed->session.bytes_down, 20U);
  EXPECT_EQ(handed->session.exchange.partner, session.exchange.partner);
  EXPECT_TRUE(handed->session.answered && handed->session.fixed_target && handed->session.cut &&
              handed->session.counted);
  EXPECT_FALSE(handed->session.mixed || handed->session.stays || handed->association);
  EXPECT_EQ(handed->session.ruling.name(), "www.example");
  std::ignore = session.fd.release();
}

TEST(HandoverRecords, a_ruling_and_a_waiting_datagram_are_read_as_they_were_written) {
  UdpSession entry;
  entry.key = {.client = address("192.0.2.2:1234"), .destination = address("198.51.100.2:443")};
  entry.last_activity_ms = 7;
  entry.answered = true;
  entry.decided = std::make_unique<UdpRuling>();
  entry.decided->state = UdpRuling::State::decided;
  entry.decided->origin = {.interface = 4, .traffic_class = 8};
  auto leg = std::make_shared<LegOptions>();
  leg->mark = 0x20;
  leg->interface = "wan1";
  leg->source_ipv4 = *IpAddress::parse("203.0.113.7");
  auto& verdict = entry.decided->verdict;
  verdict = {.action = FlowVerdict::Action::relay,
             .fixed_target = true,
             .own_session = true,
             .dial = {},
             .ruling = full_ruling()};
  verdict.dial = {.target = address("198.51.100.3:443"), .source = SourceMode::address, .leg = leg};
  std::vector<std::byte> bytes;
  RecordWriter writer(bytes);
  write_ruling(writer, entry, nullptr);
  write_datagram(writer, entry, {.payload = {std::byte{1}, std::byte{2}}, .fields = {.ttl = 9, .traffic_class = 8}});
  RecordReader reader(bytes);
  const auto ruling = read_ruling(reader);
  ASSERT_TRUE(ruling);
  EXPECT_EQ(ruling->key, entry.key);
  EXPECT_TRUE(is_decided(*ruling->ruling));
  EXPECT_EQ(ruling->ruling->verdict.dial.target, verdict.dial.target);
  ASSERT_TRUE(ruling->ruling->verdict.dial.leg);
  EXPECT_EQ(*ruling->ruling->verdict.dial.leg, *leg);
  EXPECT_TRUE(ruling->ruling->verdict.fixed_target && ruling->ruling->verdict.own_session &&
              !ruling->ruling->verdict.by_name);
  EXPECT_EQ(ruling->ruling->void_from_ms, UINT64_MAX);
  const auto datagram = read_datagram(reader);
  ASSERT_TRUE(datagram);
  EXPECT_TRUE(reader.empty());
  EXPECT_EQ(datagram->key, entry.key);
  EXPECT_EQ(datagram->interface, 4U);
  EXPECT_EQ(datagram->held.payload.size(), 2U);
  EXPECT_EQ(datagram->held.fields.ttl, 9);
}

TEST(HandoverRecords, half_a_record_is_none) {
  Flow flow = relaying_flow();
  const auto written = write(flow);
  for (std::size_t length = 0; length < written.bytes.size(); ++length) {
    RecordReader reader(std::span(written.bytes).first(length));
    EXPECT_FALSE(read_flow(reader)) << length;
  }
  forget_descriptors(flow);
}

/// Whatever a byte is changed into: what is read keeps within the bounds that the relay relies on.
TEST(HandoverRecords, what_is_read_keeps_within_its_bounds) {
  Flow flow = relaying_flow();
  const auto written = write(flow);
  std::mt19937 random(1);
  unsigned accepted = 0;
  for (int round = 0; round < 100'000; ++round) {
    auto bytes = written.bytes;
    for (int change = 0; change < 3; ++change) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    RecordReader reader(bytes);
    const auto handed = read_flow(reader);
    if (!handed) continue;
    ++accepted;
    EXPECT_LE(handed->flow.state, FlowState::lingering);
    EXPECT_NE(handed->flow.state, FlowState::resolving);
    EXPECT_NE(handed->flow.state, FlowState::handshaking);
    EXPECT_LE(handed->held_up, BufferPool::kLargestBytes);
    EXPECT_LE(handed->held_down, BufferPool::kLargestBytes);
    EXPECT_LE(handed->flow.end, FlowEnd::error);
    EXPECT_LE(handed->flow.source, SourceMode::prefer_port);
    EXPECT_TRUE(handed->has_client || handed->flow.state == FlowState::lingering);
    EXPECT_TRUE(handed->has_pipe_down || handed->flow.down.piped == 0);
  }
  EXPECT_GT(accepted, 0U);
  forget_descriptors(flow);
}

}  // namespace
}  // namespace limpid
