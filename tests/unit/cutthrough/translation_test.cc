// What the programs make of packets of a cut-through flow: headers, options, errors, and what is answered or left alone.
// Against a slow oracle of the algebra.
#include "tests/unit/cutthrough/flow_packets.h"

namespace limpid::segments {
namespace {

class Translation : public FlowPackets {};

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

INSTANTIATE_TEST_SUITE_P(Families, Translation, testing::Values(Family::ipv4, Family::ipv6), family_name);

}  // namespace
}  // namespace limpid::segments
