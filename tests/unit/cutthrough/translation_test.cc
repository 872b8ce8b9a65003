// What the programs make of packets of a cut-through flow, by BPF_PROG_TEST_RUN of the program that is attached, against a slow oracle of the algebra.
#include <bpf/bpf.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "net/tc_program.h"
#include "tests/unit/cutthrough/legs.h"
#include "tests/unit/cutthrough/segments.h"

namespace limpid {
namespace {

using namespace segments;
using namespace testbed;

constexpr int kNext = -1;
constexpr int kDrop = 2;
constexpr int kRedirect = 7;
constexpr std::uint32_t kMargin = 100;

class Translation : public NamespaceTest, public testing::WithParamInterface<Family> {
 protected:
  /// One network for all: each test has its own programs in it, and leaves it as it was.
  static void SetUpTestSuite() {
    if (Namespace().exists()) net_.emplace();
  }
  static void TearDownTestSuite() { net_.reset(); }
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped()) return;
    auto opened = net_->router.run([&] { return CutThrough::open({.name = "packets"}); });
    if (!opened && opened.error().kind == ErrorKind::unsupported) GTEST_SKIP() << opened.error().message();
    ASSERT_TRUE(opened) << opened.error().message();
    cut_ = std::move(*opened);
    net_->router.run([&] {
      for (const auto& [name, index, mac] :
           {std::tuple("lan", &lan_, &lan_mac_), std::tuple("wan", &wan_, &wan_mac_)}) {
        *index = static_cast<int>(::if_nametoindex(name));
        const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ifreq request{};
        std::strcpy(request.ifr_name, name);
        ASSERT_EQ(::ioctl(any.get(), SIOCGIFHWADDR, &request), 0);
        std::memcpy(mac->data(), request.ifr_hwaddr.sa_data, mac->size());
      }
      const auto ours = with_names(must(find_attachments(lan_), "attachments"), {"limpid_cut_in"});
      ASSERT_EQ(ours.size(), 1U);
      program_ = UniqueFd(bpf_prog_get_fd_by_id(ours.front().program));
    });
    const bool ipv4 = GetParam() == Family::ipv4;
    flow_.up.from = at(client_address(GetParam()), 40000);
    flow_.up.to = at(ipv4 ? "203.0.113.9" : "2001:db8:9::9", 80);  // dialled; the target is another
    flow_.up.new_from = at(ipv4 ? "192.0.2.77" : "2001:db8:1::77", 51234);
    flow_.up.new_to = at(server_address(GetParam()), 8080);
    flow_.down.from = flow_.up.new_to;
    flow_.down.to = flow_.up.new_from;
    flow_.down.new_from = flow_.up.to;
    flow_.down.new_to = flow_.up.from;
    flow_.up.seq_delta = 0x9000'0001;
    flow_.down.seq_delta = 0xf123'4567;
    flow_.up.peer_scale = 7;
    flow_.up.our_scale = 9;
    flow_.down.peer_scale = 10;
    flow_.down.our_scale = 2;
    flow_.up.clock = 0xffff'ff00;  // wraps around
    flow_.down.clock = 5'000'000;
    flow_.up.rcv_nxt = 1000;
    flow_.down.rcv_nxt = 0xffff'f000;
    flow_.up.right_edge = flow_.up.rcv_nxt + 60'000;
    flow_.down.right_edge = flow_.down.rcv_nxt + 60'000;
    flow_.up.write_seq = flow_.down.rcv_nxt + flow_.down.seq_delta;
    flow_.down.write_seq = flow_.up.rcv_nxt + flow_.up.seq_delta;
    flow_.timestamps = flow_.sack = true;
    flow_.facts = {.client = flow_.up.from, .original_destination = flow_.up.to, .target = flow_.up.new_to};
    id_ = net_->router.run([&] { return must(cut_->begin(flow_), "begin"); });
    must(cut_->settle(id_), "settle");
  }
  void TearDown() override {
    if (cut_) net_->router.run([&] { must(cut_->close([](const CutThroughRecord&) {}), "close"); });
  }

  struct Outcome {
    int action = 0;
    Bytes frame;
    [[nodiscard]] std::span<const std::uint8_t> packet() const { return std::span(frame).subspan(14); }
  };
  Outcome run(const Bytes& packet, bool up, std::uint32_t gso_bytes = 0) const {
    return run_frame(frame_of(packet, up ? lan_mac_ : wan_mac_), up, gso_bytes);
  }
  Outcome run_frame(const Bytes& frame, bool up, std::uint32_t gso_bytes = 0) const {
    return net_->router.run([&] {
      Outcome outcome;
      outcome.frame.resize(frame.size() + 256);
      __sk_buff context{};
      context.ifindex = static_cast<std::uint32_t>(up ? lan_ : wan_);
      context.gso_size = gso_bytes;
      context.gso_segs = gso_bytes == 0 ? 0 : 2;
      LIBBPF_OPTS(bpf_test_run_opts, options);
      options.data_in = frame.data();
      options.data_size_in = static_cast<std::uint32_t>(frame.size());
      options.data_out = outcome.frame.data();
      options.data_size_out = static_cast<std::uint32_t>(outcome.frame.size());
      options.ctx_in = &context;
      options.ctx_size_in = sizeof context;
      EXPECT_EQ(bpf_prog_test_run_opts(program_.get(), &options), 0) << errno;
      outcome.frame.resize(options.data_size_out);
      outcome.action = static_cast<int>(options.retval);
      return outcome;
    });
  }

  const CutThroughWay& way(bool up) const { return up ? flow_.up : flow_.down; }
  Segment segment(bool up, std::uint32_t offset = 0) const {
    Segment s;
    s.from = way(up).from;
    s.to = way(up).to;
    s.seq = way(up).rcv_nxt + offset;
    s.ack = way(up).write_seq;
    return s;
  }
  /// The algebra, without timestamps: what the other leg would have said.
  Segment translated(const Segment& s, bool up) const {
    Segment t = s;
    const CutThroughWay& w = way(up);
    t.from = w.new_from;
    t.to = w.new_to;
    t.seq += w.seq_delta;
    if ((s.flags & kAck) != 0) t.ack -= way(!up).seq_delta;
    if ((s.flags & kRst) == 0)
      t.window = static_cast<std::uint16_t>(
          std::min<std::uint64_t>(0xffff, (std::uint64_t{s.window} << w.peer_scale) >> w.our_scale));
    t.hops = static_cast<std::uint8_t>(s.hops - 1);
    return t;
  }
  Segment forwarded(const Segment& s, bool up) const {
    const Outcome outcome = run(packet_of(s), up);
    EXPECT_EQ(outcome.action, kRedirect);
    const auto parsed = parse_segment(outcome.packet());
    EXPECT_TRUE(parsed) << "a wrong checksum or length";
    return parsed.value_or(Segment{});
  }
  void expect_translation(const Segment& s, bool up) const {
    const Segment is = forwarded(s, up);
    const Segment should = translated(s, up);
    EXPECT_EQ(is.from, should.from);
    EXPECT_EQ(is.to, should.to);
    EXPECT_EQ(is.seq, should.seq);
    EXPECT_EQ(is.ack, should.ack);
    EXPECT_EQ(is.window, should.window);
    EXPECT_EQ(is, should);
  }
  std::uint64_t counter(std::string_view name) const {
    for (const auto& [what, count] : must(cut_->counters(), "counters")) {
      if (what == name) return count;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }
  CutThroughState state() const { return must(cut_->look(id_), "look"); }

  static inline std::optional<Network> net_;
  std::unique_ptr<CutThrough> cut_;
  UniqueFd program_;
  int lan_ = 0;
  int wan_ = 0;
  std::array<std::uint8_t, 6> lan_mac_{};
  std::array<std::uint8_t, 6> wan_mac_{};
  CutThroughFlow flow_;
  CutThroughId id_;
};

TEST_P(Translation, changes_addresses_ports_seq_ack_and_window) {
  for (const bool up : {true, false}) {
    Segment s = segment(up);
    expect_translation(s, up);
    s.payload = Bytes(777, 0x5a);
    s.flags |= kPsh;
    expect_translation(s, up);
    s.window = 0;
    expect_translation(s, up);
    s.window = 0xffff;
    expect_translation(s, up);
  }
}

TEST_P(Translation, holds_for_every_combination_of_flags) {
  for (const bool up : {true, false}) {
    for (const int flags : {kAck | kFin, kAck | kRst, +kRst, kAck | kUrg, +kPsh, 0xd0}) {
      Segment s = segment(up);
      s.flags = static_cast<std::uint8_t>(flags);
      s.urgent = (flags & kUrg) != 0 ? 17 : 0;
      s.payload = Bytes(20, 1);
      expect_translation(s, up);
    }
  }
}

TEST_P(Translation, wraps_around_in_sequence_space) {
  std::minstd_rand random(7);
  for (int i = 0; i < 200; ++i) {
    Segment s = segment(i % 2 == 0);
    s.seq = static_cast<std::uint32_t>(random()) * 3;
    s.ack = static_cast<std::uint32_t>(random()) * 5;
    s.window = static_cast<std::uint16_t>(random());
    s.payload = Bytes(random() % 64, static_cast<std::uint8_t>(i));
    expect_translation(s, i % 2 == 0);
  }
}

TEST_P(Translation, fixes_a_constant_for_timestamps_at_the_first_packet) {
  const auto with = [&](bool up, std::uint32_t value, std::uint32_t echo) {
    Segment s = segment(up);
    s.options = words({0x0101080a, value, echo});
    return s;
  };
  // Nothing that the other has said has been passed on yet: no echo.
  const Segment first = forwarded(with(true, 777'000, 0x1234'5678), true);
  const std::uint32_t value = get32(first.options, 4);
  EXPECT_LT(value - (flow_.up.clock + kMargin), 60'000U) << "our socket's clock, a little later";
  EXPECT_EQ(get32(first.options, 8), 0U);
  const std::uint32_t up_delta = value - 777'000;
  EXPECT_EQ(get32(forwarded(with(true, 777'500, 0), true).options, 4), 777'500 + up_delta);
  EXPECT_EQ(get32(forwarded(with(true, 776'900, 0), true).options, 4), 776'900 + up_delta) << "a late one";
  // The other direction echoes what it was told.
  const Segment back = forwarded(with(false, 42, 777'500 + up_delta), false);
  EXPECT_EQ(get32(back.options, 8), 777'500U);
  const std::uint32_t down_delta = get32(back.options, 4) - 42;
  EXPECT_LT(42 + down_delta - (flow_.down.clock + kMargin), 60'000U);
  EXPECT_EQ(get32(forwarded(with(true, 778'000, 42 + down_delta), true).options, 8), 42U);
  // What our socket had said before means nothing to the peer.
  EXPECT_EQ(get32(forwarded(with(false, 50, flow_.up.clock - 5), false).options, 8), 0U);
}

TEST_P(Translation, shifts_sack_blocks_in_any_layout) {
  for (const bool up : {true, false}) {
    const std::uint32_t delta = way(!up).seq_delta;
    for (std::size_t blocks = 1; blocks <= 4; ++blocks) {
      for (std::size_t before = 0; before < 4; ++before) {
        if (before + 2 + blocks * 8 > 40) continue;
        Segment s = segment(up);
        s.options = Bytes(before, 1) + Bytes{5, static_cast<std::uint8_t>(2 + blocks * 8)};
        Bytes shifted = s.options;
        for (std::uint32_t i = 0; i < blocks * 2; ++i) {
          s.options = s.options + words({0x7fff'0000 + i * 65537});
          shifted = shifted + words({0x7fff'0000 + i * 65537 - delta});
        }
        const Bytes padding((4 - s.options.size() % 4) % 4, 0);
        s.options = s.options + padding;
        shifted = shifted + padding;
        const Segment is = forwarded(s, up);
        EXPECT_EQ(is.options, shifted) << before << " octets before " << blocks << " blocks";
      }
    }
  }
}

TEST_P(Translation, walks_through_options_of_any_kind) {
  Segment fixed = segment(true);
  fixed.options = words({0x0101080a, 1000, 0});
  const std::uint32_t delta = get32(forwarded(fixed, true).options, 4) - 1000;
  struct Layout {
    Bytes before;
    Bytes behind;
  };
  const Bytes unknown = {253, 4, 0xaa, 0x55};
  for (const Layout& layout : {Layout{{}, {1, 1}}, Layout{{1}, {1}}, Layout{unknown, {0, 0}}, Layout{{1, 1}, unknown},
                               Layout{{254, 3, 9}, {1, 1, 1}}, Layout{{2, 4, 5, 180}, {4, 2}}}) {
    Segment s = segment(true);
    s.options = layout.before + Bytes{8, 10} + words({2000, 0}) + layout.behind;
    ASSERT_EQ(s.options.size() % 4, 0U);
    const Segment is = forwarded(s, true);
    const Bytes should = layout.before + Bytes{8, 10} + words({2000 + delta, 0}) + layout.behind;
    EXPECT_EQ(is.options, should);
  }
}

TEST_P(Translation, leaves_malformed_options_as_they_are) {
  std::minstd_rand random(11);
  for (const Bytes& bad : {Bytes{8, 0, 0, 0}, Bytes{8, 1, 0, 0}, Bytes{5, 40, 0, 0}, Bytes{0, 8, 10, 0},
                           Bytes{8, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}, Bytes{5, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1},
                           Bytes{1, 1, 1, 8}, Bytes{253, 255, 1, 1}}) {
    Segment s = segment(true);
    s.options = bad;
    EXPECT_EQ(forwarded(s, true).options, bad);
  }
  // Anything at all: the checksum must hold, and the length.
  for (int i = 0; i < 500; ++i) {
    Segment s = segment(i % 2 == 0);
    s.options.resize((random() % 11) * 4);
    for (auto& octet : s.options) octet = static_cast<std::uint8_t>(random() % 3 == 0 ? random() % 12 : random());
    const Segment is = forwarded(s, i % 2 == 0);
    EXPECT_EQ(is.options.size(), s.options.size());
    EXPECT_EQ(is.seq, translated(s, i % 2 == 0).seq);
  }
}

TEST_P(Translation, does_not_repair_a_damaged_packet) {
  Bytes packet = packet_of(segment(true));
  packet.back() ^= 1;
  const Outcome outcome = run(packet, true);
  EXPECT_EQ(outcome.action, kRedirect);
  EXPECT_FALSE(parse_segment(outcome.packet()));
}

TEST_P(Translation, leaves_other_packets_alone) {
  Segment other = segment(true);
  other.from.port.value++;
  Outcome outcome = run(packet_of(other), true);
  EXPECT_EQ(outcome.action, kNext);
  EXPECT_EQ(parse_segment(outcome.packet()), other);
  const Bytes udp = ip_packet(flow_.up.from.address, flow_.up.to.address, 17, 64, Bytes(16, 7));
  EXPECT_EQ(run(udp, true).action, kNext);
  Bytes elsewhere = frame_of(packet_of(segment(true)), lan_mac_);
  elsewhere[5] ^= 1;
  EXPECT_EQ(run_frame(elsewhere, true).action, kNext) << "somebody else's frame";
  Bytes truncated = packet_of(segment(true));
  truncated.resize(truncated.size() - 1);
  EXPECT_EQ(run(truncated, true).action, kNext);
}

TEST_P(Translation, takes_ip_options_and_extension_headers_along) {
  Segment s = segment(true);
  if (GetParam() == Family::ipv4) {
    s.ip_options = {1, 1, 1, 0};
    expect_translation(s, true);
    return;
  }
  const Bytes hop_by_hop = {60, 0, 1, 4, 0, 0, 0, 0};
  const Bytes destination = {6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const Bytes packet = ip_packet(s.from.address, s.to.address, 0, 64, hop_by_hop + destination + tcp_bytes(s));
  const Outcome outcome = run(packet, true);
  EXPECT_EQ(outcome.action, kRedirect);
  const auto ip = parse_ip(outcome.packet());
  ASSERT_TRUE(ip);
  const Bytes tcp(ip->payload.begin() + 24, ip->payload.end());
  EXPECT_EQ(tcp, tcp_bytes(translated(s, true)));
}

TEST_P(Translation, answers_when_a_packet_has_expired) {
  const bool ipv4 = GetParam() == Family::ipv4;
  Segment s = segment(true);
  s.hops = 1;
  const Bytes sent = packet_of(s);
  const Outcome outcome = run(sent, true);
  EXPECT_EQ(outcome.action, kRedirect);
  const auto ip = parse_ip(outcome.packet());
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->to, s.from.address);
  EXPECT_EQ(ip->payload[0], ipv4 ? 11 : 3);
  EXPECT_TRUE(std::equal(ip->payload.begin() + 8, ip->payload.end(), sent.begin()))
      << "what was sent, not what was made of it";
  Sum sum;
  sum.add(ip->payload);
  EXPECT_EQ(ipv4 ? sum.value() : checksum_over(ip->from, ip->to, 58, ip->payload), 0);
}

TEST_P(Translation, answers_when_a_packet_is_too_big) {
  const bool ipv4 = GetParam() == Family::ipv4;
  net_->router.command("iproute2", {"ip", "link", "set", "wan", "mtu", "1300"});
  Segment s = segment(true);
  s.payload = Bytes(1300 - (ipv4 ? 40 : 60), 1);
  expect_translation(s, true);
  s.payload.push_back(1);
  const Bytes sent = packet_of(s);
  const Outcome outcome = run(sent, true);
  const auto ip = parse_ip(outcome.packet());
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->payload[0], ipv4 ? 3 : 2);
  EXPECT_EQ(ip->payload[1], ipv4 ? 4 : 0);
  EXPECT_EQ(get32(ip->payload, 4), 1300U);
  EXPECT_EQ(counter("too big"), 1U);
  // Segments that GRO has put together leave one by one.
  s.payload = Bytes(1200, 1);
  EXPECT_EQ(run(packet_of(s), true, 600).action, kRedirect);
  EXPECT_EQ(counter("too big"), 1U);
  net_->router.command("iproute2", {"ip", "link", "set", "wan", "mtu", "1500"});
}

TEST_P(Translation, counts_bytes_once_and_knows_an_end) {
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

TEST_P(Translation, believes_a_reset_only_where_its_receiver_would) {
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

TEST_P(Translation, nobody_ends_a_flow_without_its_sequence_numbers) {
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

TEST_P(Translation, an_end_in_the_window_that_was_none_is_taken_back) {
  Segment fin = segment(true, 5000);
  fin.flags = kAck | kFin;
  forwarded(fin, true);
  EXPECT_TRUE(state().client_finished);
  Segment s = segment(true, 4000);
  s.payload = Bytes(1200, 1);
  forwarded(s, true);
  EXPECT_FALSE(state().client_finished);
}

TEST_P(Translation, follows_the_window_that_the_receiver_announces) {
  Segment s = segment(true, 60'000);
  s.payload = Bytes(1000, 1);
  forwarded(s, true);
  EXPECT_EQ(state().bytes_up, 0U) << "beyond what anybody has room for";
  Segment room = segment(false);
  room.ack = flow_.down.write_seq + 60'000;
  room.window = 1;  // << 10
  forwarded(room, false);
  forwarded(s, true);
  EXPECT_EQ(state().bytes_up, 61'000U);
}

TEST_P(Translation, gives_the_tuple_of_an_ended_flow_to_a_new_connection) {
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

TEST_P(Translation, gives_the_port_of_an_ended_flow_to_a_new_target_leg) {
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

TEST_P(Translation, a_target_that_has_forgotten_the_flow_ends_it) {
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

TEST_P(Translation, a_recorded_flow_goes_with_its_tuple) {
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

TEST_P(Translation, resets_whoever_writes_to_a_flow_that_was_ended) {
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

TEST_P(Translation, drops_the_first_fragment_and_leaves_others) {
  const Bytes tcp = tcp_bytes(segment(true));
  // More to come, in the middle, the last one.
  for (const auto& [offset, more, action] :
       {std::tuple(0U, 1U, kDrop), std::tuple(3U, 1U, kNext), std::tuple(3U, 0U, kNext)}) {
    Bytes packet;
    if (GetParam() == Family::ipv4) {
      packet = ip_packet(flow_.up.from.address, flow_.up.to.address, 6, 64, tcp, {},
                         static_cast<std::uint16_t>(more << 13U | offset));
    } else {
      packet = ip_packet(flow_.up.from.address, flow_.up.to.address, 44, 64,
                         Bytes{6, 0, 0, static_cast<std::uint8_t>(offset << 3U | more), 0, 0, 0, 1} + tcp);
    }
    EXPECT_EQ(run(packet, true).action, action) << offset << ' ' << more;
  }
  EXPECT_EQ(counter("fragments"), 1U);
}

TEST_P(Translation, translates_what_errors_quote) {
  const bool ipv4 = GetParam() == Family::ipv4;
  const IpAddress reporter = *IpAddress::parse(ipv4 ? "198.51.100.200" : "2001:db8:2::200");
  for (const bool up : {true, false}) {
    Segment s = segment(up, 300);
    s.hops = 60;
    const Bytes original = packet_of(s);
    const Bytes made = packet_of(translated(s, up));
    for (const std::size_t quoted : {std::size_t{8}, made.size() - (ipv4 ? 20U : 40U)}) {
      const Bytes quotation(made.begin(), made.begin() + static_cast<std::ptrdiff_t>(quoted + (ipv4 ? 20U : 40U)));
      const Bytes error = ipv4 ? icmp_error(reporter, way(up).new_from.address, 3, 4, 1400, quotation)
                               : icmp_error(reporter, way(up).new_from.address, 2, 0, 1400, quotation);
      const Outcome outcome = run(error, !up);
      EXPECT_EQ(outcome.action, kRedirect);
      const auto ip = parse_ip(outcome.packet());
      ASSERT_TRUE(ip);
      EXPECT_EQ(ip->from, reporter);
      EXPECT_EQ(ip->to, s.from.address);
      EXPECT_EQ(ip->hops, 63);
      EXPECT_EQ(get32(ip->payload, 4), 1400U);
      Sum sum;
      sum.add(ip->payload);
      EXPECT_EQ(ipv4 ? sum.value() : checksum_over(ip->from, ip->to, 58, ip->payload), 0);
      const auto about = parse_ip(std::span(ip->payload).subspan(8), true);
      ASSERT_TRUE(about) << "the quoted header's checksum";
      EXPECT_EQ(about->from, s.from.address);
      EXPECT_EQ(about->to, s.to.address);
      EXPECT_EQ(get16(about->payload, 0), s.from.port.value);
      EXPECT_EQ(get16(about->payload, 2), s.to.port.value);
      EXPECT_EQ(get32(about->payload, 4), s.seq);
    }
  }
  EXPECT_EQ(counter("errors translated"), 4U);
  EXPECT_EQ(counter("failed"), 0U);
}

TEST_P(Translation, an_error_of_the_target_comes_from_whom_the_client_dialled) {
  const bool ipv4 = GetParam() == Family::ipv4;
  const Bytes made = packet_of(translated(segment(true), true));
  const Bytes error =
      icmp_error(flow_.up.new_to.address, flow_.up.new_from.address, ipv4 ? 3 : 1, ipv4 ? 3 : 4, 0, made);
  const auto ip = parse_ip(run(error, false).packet());
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->from, flow_.up.to.address);
}

TEST_P(Translation, drops_what_has_no_way_and_finds_the_way_again) {
  const bool ipv4 = GetParam() == Family::ipv4;
  const std::vector<std::string> host = {std::string(server_address(GetParam())) + (ipv4 ? "/32" : "/128")};
  net_->router.command("iproute2", {"ip", "route", "add", "unreachable", host[0]});
  EXPECT_EQ(run(packet_of(segment(true)), true).action, kDrop);
  EXPECT_EQ(counter("no way"), 1U);
  net_->router.command("iproute2", {"ip", "route", "del", "unreachable", host[0]});
  expect_translation(segment(true), true);
}

INSTANTIATE_TEST_SUITE_P(Families, Translation, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& of) { return of.param == Family::ipv4 ? "ipv4" : "ipv6"; });

}  // namespace
}  // namespace limpid
