// What the programs believe of a flow's end, and of those who would like to end somebody else's: FINs, resets, SYNs.
// Bytes are counted on the way.
#include <barrier>
#include <thread>

#include "tests/unit/cutthrough/flow_packets.h"

namespace limpid::segments {
namespace {

class Ends : public FlowPackets {};

TEST_P(Ends, counts_bytes_once_and_knows_an_end) {
  Segment s = segment(true);
  s.payload = Bytes(100, 1);
  forwarded(s, true);
  forwarded(s, true);
  EXPECT_EQ(state().bytes_up, 100U);
  EXPECT_EQ(state().packets_up, 2U);
  Segment far = segment(true, 0x7000'0000);
  far.flags |= kFin;
  forwarded(far, true);
  EXPECT_FALSE(state().client_finished) << "anybody could have written that";
  Segment fin = segment(true, 100);
  fin.flags |= kFin;
  forwarded(fin, true);
  EXPECT_TRUE(state().client_finished);
  Segment behind = segment(true, 101);
  forwarded(behind, true);
  EXPECT_EQ(state().bytes_up, 100U);
  // The target acknowledges it, and ends as well.
  Segment last = segment(false);
  last.flags |= kFin;
  last.ack = behind.seq + flow_.up.seq_delta;
  forwarded(last, false);
  EXPECT_FALSE(state().closed);
  behind.ack = last.seq + flow_.down.seq_delta + 1;
  forwarded(behind, true);
  EXPECT_TRUE(state().closed);
  // An ACK that came twice, and met a socket that is gone.
  Segment rst = segment(false, 1);
  rst.flags = kRst;
  forwarded(rst, false);
  EXPECT_FALSE(state().target_reset);
}

TEST_P(Ends, believes_a_reset_only_where_its_receiver_would) {
  Segment s = segment(true, 5000);
  s.flags = kRst;
  forwarded(s, true);
  EXPECT_FALSE(state().client_reset);
  s.seq = flow_.up.rcv_nxt;
  forwarded(s, true);
  EXPECT_TRUE(state().client_reset);
  forwarded(segment(false), false);
  EXPECT_FALSE(state().client_reset) << "the target goes on speaking";
}

TEST_P(Ends, who_answers_a_reset_with_a_reset_has_not_ended_it) {
  Segment rst = segment(false);
  rst.flags = kRst;
  forwarded(rst, false);
  ASSERT_TRUE(state().target_reset);
  // Something that was still under way has met a socket that is gone.
  rst = segment(true);
  rst.flags = kRst;
  forwarded(rst, true);
  EXPECT_FALSE(state().client_reset);
  EXPECT_TRUE(state().target_reset);
}

TEST_P(Ends, nobody_ends_a_flow_without_its_sequence_numbers) {
  // Somebody who knows addresses and ports only: as the client, then as the target.
  std::minstd_rand random(13);
  for (int i = 0; i < 3000; ++i) {
    const bool up = i % 2 == 0;
    // Anywhere but in the window: that is for luck, one in 2^32 / window.
    const std::uint32_t offset = 70'000 + static_cast<std::uint32_t>(random()) * 2U % 0xfffe'0000U;
    Segment s = segment(up, offset);
    s.ack = way(up).write_seq + 70'000 + static_cast<std::uint32_t>(random()) * 2U % 0xfffe'0000U;
    s.window = 0xffff;
    s.payload = Bytes(10, 1);
    s.flags = i % 3 == 0 ? kAck | kFin : kAck;
    run(packet_of(s), up);
    s.payload.clear();
    s.seq += 10;
    for (const int flags : {kRst | kAck, kRst + 0, kFin | kAck}) {
      s.flags = static_cast<std::uint8_t>(flags);
      run(packet_of(s), up);
    }
  }
  const CutThroughState is = state();
  EXPECT_FALSE(is.client_reset || is.target_reset || is.client_finished || is.target_finished);
  EXPECT_EQ(is.bytes_up + is.bytes_down, 0U);
  // The real ones are known for what they are.
  Segment s = segment(true);
  s.payload = Bytes(100, 1);
  s.flags = kAck | kFin;
  forwarded(s, true);
  EXPECT_EQ(state().bytes_up, 100U);
  EXPECT_TRUE(state().client_finished);
}

TEST_P(Ends, an_end_in_the_window_that_was_none_is_taken_back) {
  Segment fin = segment(true, 5000);
  fin.flags = kAck | kFin;
  forwarded(fin, true);
  EXPECT_TRUE(state().client_finished);
  Segment s = segment(true, 4000);
  s.payload = Bytes(1200, 1);
  forwarded(s, true);
  EXPECT_FALSE(state().client_finished);
}

/// Two processors have a segment each: the last octet, and the FIN right behind it. Whichever comes first, the end is known.
TEST_P(Ends, is_known_when_the_last_octet_is_seen_at_the_same_time) {
  constexpr std::uint32_t kRounds = 20'000;
  constexpr std::uint32_t kStep = 3;  // octets from round to round: what follows an end takes it back
  std::barrier round(2);
  std::uint32_t unknown = 0;
  const auto send = [&](bool last) {
    for (std::uint32_t i = 0; i < kRounds; ++i) {
      Segment s = segment(true, i * kStep + (last ? 1 : 0));
      if (last) s.flags |= kFin;
      if (!last) s.payload = Bytes(1, 1);
      const Bytes frame = frame_of(packet_of(s), lan_mac_);
      round.arrive_and_wait();
      std::ignore = run_packet_here(frame, true, {});
      round.arrive_and_wait();
      if (last && !state().client_finished) ++unknown;
    }
  };
  std::thread octets([&] { net_->router.run([&] { send(false); }); });
  net_->router.run([&] { send(true); });
  octets.join();
  EXPECT_EQ(unknown, 0U) << "of " << kRounds;
}

TEST_P(Ends, follows_the_window_that_the_receiver_announces) {
  Segment s = segment(true, 2'000'000);
  s.payload = Bytes(1000, 1);
  forwarded(s, true);
  EXPECT_EQ(state().bytes_up, 0U) << "beyond what anybody has room for";
  Segment room = segment(false);
  room.window = 0xffff;  // << 10
  forwarded(room, false);
  forwarded(s, true);
  EXPECT_EQ(state().bytes_up, 2'001'000U);
}

TEST_P(Ends, a_segment_has_to_fit_into_both_directions) {
  Segment s = segment(true);
  s.payload = Bytes(1000, 1);
  s.flags |= kFin;
  s.ack += 0x0100'0000;
  forwarded(s, true);
  EXPECT_EQ(state().bytes_up, 0U);
  EXPECT_FALSE(state().client_finished);
}

TEST_P(Ends, keeps_up_with_room_that_only_our_sockets_announced) {
  // While they drain they are read, and tell their peers so. Nothing of that is seen by the programs.
  Segment s = segment(true);
  for (int i = 0; i < 100; ++i) {
    s.payload = Bytes(1400, 1);
    if (i >= 50) forwarded(s, true);  // those before went by the socket
    s.seq += 1400;
  }
  EXPECT_EQ(state().bytes_up, 140'000U);
  s.payload.clear();
  s.flags |= kFin;
  forwarded(s, true);
  Segment last = segment(false);
  last.flags |= kFin;
  last.ack = s.seq + flow_.up.seq_delta + 1;
  forwarded(last, false);
  s.seq += 1;
  s.flags = kAck;
  s.ack = last.seq + flow_.down.seq_delta + 1;
  forwarded(s, true);
  EXPECT_TRUE(state().closed);
}

TEST_P(Ends, counts_what_passed_unseen_when_it_is_acknowledged) {
  Segment ack = segment(false);
  ack.ack = way(true).rcv_nxt + flow_.up.seq_delta + 90'000;
  forwarded(ack, false);
  EXPECT_EQ(state().bytes_up, 90'000U);
}

TEST_P(Ends, gives_the_tuple_of_an_ended_flow_to_a_new_connection) {
  Segment syn = segment(true);
  syn.flags = kSyn;
  EXPECT_EQ(run(packet_of(syn), true).action, kRedirect) << "it lives: its end answers for itself";
  Segment rst = segment(true);
  rst.flags = kRst;
  forwarded(rst, true);
  EXPECT_EQ(run(packet_of(syn), true).action, kNext);
  EXPECT_EQ(run(packet_of(segment(false)), false).action, kNext);
  std::vector<CutThroughRecord> records;
  net_->router.run([&] { must(cut_->collect([&](const CutThroughRecord& r) { records.push_back(r); }), "collect"); });
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].end, CutThroughEnd::client_reset);
}

TEST_P(Ends, a_new_connection_waits_for_the_sockets_of_one_that_drains) {
  net_->router.run([&] {
    must(cut_->end(id_), "end");
    id_ = must(cut_->begin(flow_), "begin");
  });
  Segment rst = segment(true);
  rst.flags = kRst;
  forwarded(rst, true);
  Segment syn = segment(true);
  syn.flags = kSyn;
  EXPECT_EQ(run(packet_of(syn), true).action, kDrop);
  const auto before = cut_->flows();
  must(cut_->settle(id_), "settle");
  EXPECT_EQ(cut_->flows(), before + 1);
  EXPECT_EQ(run(packet_of(syn), true).action, kNext);
  std::size_t records = 0;
  net_->router.run(
      [&] { must(cut_->collect([&](const CutThroughRecord& r) { records += r.id.value == id_.value; }), "collect"); });
  EXPECT_EQ(records, 1U);
  EXPECT_EQ(cut_->flows(), 0U) << "each is counted once";
}

TEST_P(Ends, a_new_connection_leaves_what_another_flow_has_taken_over) {
  Segment rst = segment(true);
  rst.flags = kRst;
  forwarded(rst, true);
  // Another client's flow has got the port of the target leg of this one, which nobody has collected.
  auto other = flow_;
  other.up.from.port.value = 40001;
  other.down.new_to.port.value = 40001;
  other.facts.client = other.up.from;
  const auto id = net_->router.run([&] { return must(cut_->begin(other), "begin"); });
  must(cut_->settle(id), "settle");
  Segment syn = segment(true);
  syn.flags = kSyn;
  EXPECT_EQ(run(packet_of(syn), true).action, kNext);
  EXPECT_EQ(run(packet_of(segment(false)), false).action, kRedirect) << "that is the other's now";
}

TEST_P(Ends, one_that_was_ended_is_not_settled) {
  net_->router.run([&] {
    must(cut_->end(id_), "end");
    id_ = must(cut_->begin(flow_), "begin");
    must(cut_->end(id_), "end");
    EXPECT_FALSE(cut_->settle(id_));
    EXPECT_EQ(state().phase, CutThroughPhase::resetting);
    // Its record is the caller's; that of the first one comes.
    std::size_t records = 0;
    must(cut_->collect([&](const CutThroughRecord&) { ++records; }), "collect");
    EXPECT_EQ(records, 1U);
    EXPECT_EQ(cut_->flows(), 0U);
    id_ = must(cut_->begin(flow_), "begin");
    must(cut_->end(id_, /*leaves_record=*/true), "end");
  });
  // A successor has counted it while it drained, and gets its record.
  std::size_t records = 0;
  net_->router.run([&] { must(cut_->collect([&](const CutThroughRecord&) { ++records; }), "collect"); });
  EXPECT_EQ(records, 1U);
}

TEST_P(Ends, a_reset_by_an_end_that_was_done_is_none) {
  std::vector<CutThroughRecord> records;
  const auto collect = [&] {
    net_->router.run([&] { must(cut_->collect([&](const CutThroughRecord& r) { records.push_back(r); }), "collect"); });
  };
  // Our sockets have passed on both FINs, and are told of only now.
  const auto reset_and_settle = [&] {
    Segment rst = segment(true);
    rst.flags = kRst;
    forwarded(rst, true);
    must(cut_->settle(id_, {.client = true, .target = true}), "settle");
  };
  const auto begin_anew = [&] {
    net_->router.run([&] {
      must(cut_->end(id_), "end");
      id_ = must(cut_->begin(flow_), "begin");
    });
  };
  begin_anew();
  collect();
  records.clear();  // of the one before
  reset_and_settle();
  collect();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].end, CutThroughEnd::closed);

  // The same, with a new connection on its tuple before anybody has looked.
  begin_anew();
  reset_and_settle();
  Segment syn = segment(true);
  syn.flags = kSyn;
  EXPECT_EQ(run(packet_of(syn), true).action, kNext);
  collect();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[1].end, CutThroughEnd::closed);
}

TEST_P(Ends, gives_the_port_of_an_ended_flow_to_a_new_target_leg) {
  EXPECT_TRUE(cut_->taken(flow_.down.from, flow_.down.to));
  EXPECT_TRUE(cut_->taken(flow_.up.from, flow_.up.to));
  EXPECT_FALSE(cut_->taken(flow_.down.to, flow_.down.from));
  Segment syn_ack = segment(false, 0x3000'0000);
  syn_ack.flags = kSyn | kAck;
  Segment rst = segment(true);
  rst.flags = kRst;
  forwarded(rst, true);
  EXPECT_FALSE(cut_->taken(flow_.down.from, flow_.down.to));
  EXPECT_EQ(run(packet_of(syn_ack), false).action, kNext);
  EXPECT_EQ(run(packet_of(segment(true)), true).action, kNext);
}

TEST_P(Ends, a_target_that_has_forgotten_the_flow_ends_it) {
  Segment syn_ack = segment(false, 0x3000'0000);
  syn_ack.flags = kSyn | kAck;
  EXPECT_EQ(run(packet_of(syn_ack), false).action, kDrop);
  Segment syn = segment(true, 0x1234'5678);
  syn.flags = kSyn;
  EXPECT_EQ(forwarded(syn, true).seq, syn.seq + flow_.up.seq_delta);
  EXPECT_EQ(run(packet_of(syn_ack), false).action, kDrop);
  EXPECT_FALSE(state().target_reset) << "anybody could have written these";
  syn_ack.ack = syn.seq + flow_.up.seq_delta + 1;
  EXPECT_EQ(run(packet_of(syn_ack), false).action, kDrop);
  std::vector<CutThroughRecord> records;
  net_->router.run([&] { must(cut_->collect([&](const CutThroughRecord& r) { records.push_back(r); }), "collect"); });
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].end, CutThroughEnd::target_reset);
  EXPECT_EQ(state().phase, CutThroughPhase::resetting);
}

TEST_P(Ends, a_target_that_asks_again_is_answered_by_the_client) {
  Segment syn_ack = segment(false, 0xffff'ffff);
  syn_ack.flags = kSyn | kAck;
  EXPECT_EQ(forwarded(syn_ack, false).seq, syn_ack.seq + flow_.down.seq_delta);
  Segment word = segment(false);
  word.payload = {1, 2, 3};
  forwarded(word, false);
  EXPECT_EQ(run(packet_of(syn_ack), false).action, kDrop) << "it has said something since";
}

TEST_P(Ends, a_recorded_flow_goes_with_its_tuple) {
  net_->router.run([&] {
    std::vector<CutThroughRecord> records;
    const auto keep = [&](const CutThroughRecord& r) { records.push_back(r); };
    must(cut_->end(id_), "end");
    must(cut_->collect(keep), "collect");
    EXPECT_EQ(records.size(), 1U);
    const CutThroughId next = must(cut_->begin(flow_), "begin");
    must(cut_->settle(next), "settle");
    EXPECT_FALSE(cut_->look(id_));
    must(cut_->collect(keep), "collect");
    EXPECT_EQ(records.size(), 1U) << "once";
    EXPECT_EQ(cut_->flows(), 1U);
  });
}

TEST_P(Ends, resets_whoever_writes_to_a_flow_that_was_ended) {
  net_->router.run([&] { must(cut_->end(id_), "end"); });
  Segment s = segment(true);
  s.ack = 0x1234'5678;
  const Outcome outcome = run(packet_of(s), true);
  EXPECT_EQ(outcome.action, kRedirect);
  const auto answer = parse_segment(outcome.packet());
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->flags, kRst);
  EXPECT_EQ(answer->from, s.to);
  EXPECT_EQ(answer->to, s.from);
  EXPECT_EQ(answer->seq, 0x1234'5678U);
}

INSTANTIATE_TEST_SUITE_P(Families, Ends, testing::Values(Family::ipv4, Family::ipv6), family_name);

}  // namespace
}  // namespace limpid::segments
