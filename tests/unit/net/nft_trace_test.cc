// nftables' trace messages: recorded ones mean what they meant, and cut or bent ones are refused instead of read too far.
#include "net/nft_trace.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

namespace limpid {
namespace {

/// A message as Linux 6.18 sent it: tests/fuzz/seeds/nft_trace.
std::vector<std::byte> recorded(const std::string& name) {
  std::ifstream file(std::string(LIMPID_TESTS_DIR) + "/fuzz/seeds/nft_trace/" + name, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_FALSE(text.empty()) << name;
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

TEST(NftTrace, first_message_of_a_hook_quotes_the_packet) {
  const auto event = parse_trace_message(recorded("tcp4-01"));
  ASSERT_TRUE(event);
  EXPECT_EQ(event->family, "inet");
  EXPECT_EQ(event->table, "limpid__explain");
  EXPECT_EQ(event->chain, "arrival");
  EXPECT_EQ(event->kind, TraceKind::rule);
  EXPECT_EQ(event->verdict, TraceVerdict::go_on);
  EXPECT_NE(event->rule_handle, 0U);
  EXPECT_NE(event->input_interface, 0U);
  EXPECT_EQ(event->output_interface, 0U);
  ASSERT_TRUE(event->packet);
  EXPECT_EQ(event->packet->source.to_string(), "192.0.2.2:20001");
  EXPECT_EQ(event->packet->destination.to_string(), "198.51.100.2:80");
  EXPECT_EQ(event->packet->protocol, 6);
  EXPECT_EQ(event->packet->tcp_flags, 0x02);
  EXPECT_TRUE(event->packet->after_ports);
}

TEST(NftTrace, jumps_name_their_chain_and_marks_are_seen) {
  const auto jump = parse_trace_message(recorded("tcp4-06"));
  ASSERT_TRUE(jump);
  EXPECT_EQ(jump->verdict, TraceVerdict::go_to);
  EXPECT_EQ(jump->target, "clients");
  EXPECT_EQ(jump->mark, 0U);
  const auto captured = parse_trace_message(recorded("tcp4-08"));
  ASSERT_TRUE(captured);
  EXPECT_EQ(captured->chain, "intercept");
  EXPECT_EQ(captured->verdict, TraceVerdict::accept);
  EXPECT_EQ(captured->mark, 0x1000000U);
}

TEST(NftTrace, ipv6_datagrams_and_policies) {
  const auto first = parse_trace_message(recorded("udp6-01"));
  ASSERT_TRUE(first && first->packet);
  EXPECT_EQ(first->packet->destination.to_string(), "[2001:db8:2::2]:99");
  EXPECT_EQ(first->packet->protocol, 17);
  EXPECT_TRUE(first->packet->payload);
  const auto last = parse_trace_message(recorded("udp6-09"));
  ASSERT_TRUE(last);
  EXPECT_EQ(last->table, "wall");
  EXPECT_EQ(last->kind, TraceKind::policy);
  EXPECT_EQ(last->verdict, TraceVerdict::drop);
}

TEST(NftTrace, cut_messages_are_refused) {
  for (const char* name : {"tcp4-01", "tcp4-05", "udp6-01"}) {
    const auto whole = recorded(name);
    for (std::size_t length = 0; length < whole.size(); ++length) {
      EXPECT_FALSE(parse_trace_message(std::span(whole).first(length))) << name << " cut to " << length;
    }
  }
}

TEST(NftTrace, lengths_that_lie_are_not_believed) {
  const auto whole = recorded("tcp4-01");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0xff}) {
      auto bent = whole;
      bent[at] = static_cast<std::byte>(value);
      if (const auto event = parse_trace_message(bent)) {
        EXPECT_FALSE(event->table.empty());
      }
    }
  }
}

TEST(NftTrace, other_messages_of_netlink_are_none) {
  auto bytes = recorded("tcp4-01");
  bytes[4] = std::byte{0};  // nlmsg_type: a new table
  EXPECT_FALSE(parse_trace_message(bytes));
}

}  // namespace
}  // namespace limpid
