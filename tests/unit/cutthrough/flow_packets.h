// A flow that is cut through between two interfaces and has no sockets, its packets as values, and what the attached program makes of them by
// BPF_PROG_TEST_RUN; and a slow oracle of the algebra in docs/cut-through.md.
#pragma once

#include <bpf/bpf.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "bpf/cut_through_layout.h"
#include "net/tc_program.h"
#include "tests/unit/cutthrough/legs.h"
#include "tests/unit/cutthrough/segments.h"

namespace limpid::segments {

using testbed::at;
using testbed::client_address;
using testbed::must;
using testbed::Namespace;
using testbed::NamespaceTest;
using testbed::Network;
using testbed::server_address;

inline constexpr int kNext = -1;
inline constexpr int kDrop = 2;
inline constexpr int kRedirect = 7;
inline constexpr std::uint32_t kMargin = 100;  ///< milliseconds: bpf/cut_through_translate.h

class FlowPackets : public NamespaceTest, public testing::WithParamInterface<Family> {
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
    __sk_buff context{};
    context.gso_size = gso_bytes;
    context.gso_segs = gso_bytes == 0 ? 0 : 2;
    return run_packet(frame, up, context);
  }
  /// What was cloned for our socket comes in.
  Outcome run_clone(const Bytes& packet, bool up) const {
    __sk_buff context{};
    context.mark = LIMPID_CUT_CLONE_MARK;
    return run_packet(frame_of(packet, up ? lan_mac_ : wan_mac_), up, context);
  }
  Outcome run_packet(const Bytes& frame, bool up, const __sk_buff& context) const {
    return net_->router.run([&] { return run_packet_here(frame, up, context); });
  }
  /// Of a thread that is in the router's namespace.
  Outcome run_packet_here(const Bytes& frame, bool up, __sk_buff context) const {
    Outcome outcome;
    outcome.frame.resize(frame.size() + 256);
    context.ifindex = static_cast<std::uint32_t>(up ? lan_ : wan_);
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

inline std::string family_name(const testing::TestParamInfo<Family>& of) {
  return of.param == Family::ipv4 ? "ipv4" : "ipv6";
}

}  // namespace limpid::segments
