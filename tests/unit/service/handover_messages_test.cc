// Each message of a handover is read as it was written, by its own reader alone, and whole or not at all.
#include "service/handover_messages.h"

#include <gtest/gtest.h>

#include "relay/flow_freeze.h"
#include "relay/handover_records.h"

namespace limpid {
namespace {

HandedInstance instance() {
  return {.name = "limpid",
          .backend = Backend::iptables_nft,
          .mark = {.mask = 0x300, .intercept = 0x100, .bypass = 0x200},
          .table = TableId{7676},
          .priority = RulePriority{100},
          .listener = Port{1088},
          .workers = 4,
          .cut_through = 17,
          .control_path = "/run/limpid/ctl.sock",
          .metrics_address = "127.0.0.1:9100",
          .dashboard_address = ""};
}

TEST(HandoverMessages, an_instance_is_read_as_it_was_written) {
  const auto read = read_instance(instance_message(instance()));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->name, "limpid");
  EXPECT_EQ(read->backend, Backend::iptables_nft);
  EXPECT_EQ(read->mark, instance().mark);
  EXPECT_EQ(read->table, instance().table);
  EXPECT_EQ(read->priority, instance().priority);
  EXPECT_EQ(read->listener, instance().listener);
  EXPECT_EQ(read->workers, 4U);
  EXPECT_EQ(read->cut_through, 17U);
  EXPECT_EQ(read->control_path, "/run/limpid/ctl.sock");
  EXPECT_EQ(read->descriptors(), 3U) << "the lock, the control socket, the metrics";
}

TEST(HandoverMessages, the_others_are_too) {
  EXPECT_EQ(read_hello(hello_message()), kHandoverVersion);
  EXPECT_EQ(read_refusal(refuse_message("no rights")), "no rights");
  const auto listeners = read_listeners(listeners_message({.worker = 3, .tcp = 2, .udp = 1}));
  ASSERT_TRUE(listeners);
  EXPECT_EQ(listeners->worker + listeners->tcp * 10 + listeners->udp * 100, 123);
  const auto counts =
      read_counts(counts_message({.counters = {{"flows_total", 1ULL << 40U}, {"x", 0}}, .sessions_without_us = 2}));
  ASSERT_TRUE(counts);
  EXPECT_EQ(counts->counters.at(0), std::pair(std::string("flows_total"), std::uint64_t{1} << 40U));
  EXPECT_EQ(counts->sessions_without_us, 2U);
  const HandedTotals totals{.flows = 100'000, .sessions = 5};
  EXPECT_EQ(read_totals(totals_message(HandoverMessage::taken, totals), HandoverMessage::taken), totals);
  EXPECT_FALSE(read_totals(totals_message(HandoverMessage::taken, totals), HandoverMessage::end));
  EXPECT_TRUE(is_plain(plain_message(HandoverMessage::go), HandoverMessage::go));
  EXPECT_FALSE(is_plain(plain_message(HandoverMessage::go), HandoverMessage::ready));
}

TEST(HandoverMessages, what_is_cut_off_longer_or_of_another_kind_is_refused) {
  auto message = instance_message(instance());
  for (std::size_t length = 0; length < message.size(); ++length)
    EXPECT_FALSE(read_instance(std::span(message).first(length))) << length;
  message.push_back(std::byte{0});
  EXPECT_FALSE(read_instance(message));
  EXPECT_FALSE(read_instance(hello_message()));
  EXPECT_FALSE(read_counts(hello_message()));
  EXPECT_FALSE(read_hello(instance_message(instance())));
  EXPECT_FALSE(kind_of({}));
  const std::byte part{static_cast<std::uint8_t>(HandoverPart::flows)};
  EXPECT_FALSE(kind_of({&part, 1})) << "a record is no message";
  EXPECT_EQ(kind_of(hello_message()), HandoverMessage::hello);
}

}  // namespace
}  // namespace limpid
