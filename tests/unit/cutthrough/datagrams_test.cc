// What the programs make of datagrams of a cut-through session, packet by packet and against a slow oracle; and the life of a session in the maps.
#include "tests/unit/cutthrough/flow_packets.h"

namespace limpid::segments {
namespace {

constexpr std::uint16_t kNoFragments = 0x4000;  // DF

struct Datagram {
  SocketAddress from;
  SocketAddress to;
  Bytes payload;
  std::uint8_t hops = 64;
  bool summed = true;  ///< IPv4: with a checksum
  bool operator==(const Datagram&) const = default;
};

Bytes udp_bytes(const Datagram& datagram) {
  Bytes udp(8);
  put16(udp, 0, datagram.from.port.value);
  put16(udp, 2, datagram.to.port.value);
  put16(udp, 4, static_cast<std::uint32_t>(8 + datagram.payload.size()));
  udp = udp + datagram.payload;
  const std::uint16_t sum = checksum_over(datagram.from.address, datagram.to.address, 17, udp);
  if (datagram.summed) put16(udp, 6, sum == 0 ? 0xffff : sum);
  return udp;
}
Bytes packet_of(const Datagram& datagram, const Bytes& options = {}, std::uint16_t fragment = kNoFragments) {
  return ip_packet(datagram.from.address, datagram.to.address, 17, datagram.hops, udp_bytes(datagram), options,
                   fragment);
}
/// Empty where a length or checksum is wrong.
std::optional<Datagram> parse_datagram(std::span<const std::uint8_t> packet) {
  const auto ip = parse_ip(packet);
  if (!ip || ip->protocol != 17 || ip->payload.size() < 8 || get16(ip->payload, 4) != ip->payload.size()) return {};
  Datagram datagram;
  datagram.summed = get16(ip->payload, 6) != 0;
  if (datagram.summed && checksum_over(ip->from, ip->to, 17, ip->payload) != 0) return {};
  datagram.from = {.address = ip->from, .port = Port{static_cast<std::uint16_t>(get16(ip->payload, 0))}};
  datagram.to = {.address = ip->to, .port = Port{static_cast<std::uint16_t>(get16(ip->payload, 2))}};
  datagram.payload.assign(ip->payload.begin() + 8, ip->payload.end());
  datagram.hops = ip->hops;
  return datagram;
}

class Datagrams : public FlowPackets {
 protected:
  void SetUp() override {
    FlowPackets::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    session_.legs = {.client = flow_.up.from,
                     .original_destination = flow_.up.to,
                     .source = flow_.up.new_from,
                     .target = flow_.up.new_to};
    session_.bytes_up = 1000;
    session_.bytes_down = 2000;
    session_.answered = true;
    net_->router.run([&] { must(cut_->datagrams().begin(session_), "begin"); });
  }
  const CutLegs& legs() const { return session_.legs; }
  Datagram datagram(bool up, std::size_t bytes = 100) const {
    return {.from = up ? legs().client : legs().target,
            .to = up ? legs().original_destination : legs().source,
            .payload = Bytes(bytes, 0x5a)};
  }
  Datagram translated(const Datagram& datagram, bool up) const {
    Datagram made = datagram;
    made.from = up ? legs().source : legs().original_destination;
    made.to = up ? legs().target : legs().client;
    made.hops = static_cast<std::uint8_t>(datagram.hops - 1);
    return made;
  }
  void expect_translation(const Datagram& sent, bool up) const {
    const Outcome outcome = run(packet_of(sent), up);
    EXPECT_EQ(outcome.action, kRedirect);
    const auto parsed = parse_datagram(outcome.packet());
    ASSERT_TRUE(parsed) << "a wrong checksum or length";
    EXPECT_EQ(*parsed, translated(sent, up));
  }
  std::optional<CutThroughTraffic> traffic() const {
    return cut_->datagrams().look(legs().client, legs().original_destination);
  }

  CutThroughSession session_;
};

TEST_P(Datagrams, get_the_addresses_and_ports_of_the_other_leg) {
  std::minstd_rand random(5);
  for (int i = 0; i < 100; ++i) {
    const bool up = i % 2 == 0;
    Datagram sent = datagram(up, random() % 1400);
    for (auto& octet : sent.payload) octet = static_cast<std::uint8_t>(random());
    sent.hops = static_cast<std::uint8_t>(2 + random() % 250);
    expect_translation(sent, up);
  }
  expect_translation(datagram(true, 0), true);
}

TEST_P(Datagrams, without_a_checksum_stay_so) {
  if (GetParam() == Family::ipv6) GTEST_SKIP() << "IPv6 always has one (RFC 8200, section 8.1)";
  for (const bool up : {true, false}) {
    Datagram sent = datagram(up);
    sent.summed = false;
    expect_translation(sent, up);
  }
}

TEST_P(Datagrams, never_get_a_checksum_that_says_there_is_none) {
  // Two octets that make the translated sum zero, which is written as 0xffff.
  for (const bool up : {true, false}) {
    Datagram sent = datagram(up, 2);
    sent.payload = {0, 0};
    Bytes made = udp_bytes(translated(sent, up));
    const auto sum = static_cast<std::uint16_t>(get16(made, 6));
    sent.payload = {static_cast<std::uint8_t>(sum >> 8U), static_cast<std::uint8_t>(sum)};
    ASSERT_EQ(get16(udp_bytes(translated(sent, up)), 6), 0xffffU);
    expect_translation(sent, up);
  }
}

TEST_P(Datagrams, that_are_damaged_stay_damaged) {
  Bytes packet = packet_of(datagram(true));
  packet.back() ^= 1U;
  const Outcome outcome = run(packet, true);
  EXPECT_EQ(outcome.action, kRedirect);
  EXPECT_FALSE(parse_datagram(outcome.packet()));
}

TEST_P(Datagrams, behind_ip_options_and_extension_headers_are_translated) {
  const Datagram sent = datagram(true);
  if (GetParam() == Family::ipv4) {
    const Outcome outcome = run(packet_of(sent, {0x94, 4, 0, 0}), true);  // router alert
    EXPECT_EQ(outcome.action, kRedirect);
    EXPECT_EQ(parse_datagram(outcome.packet()), translated(sent, true));
    EXPECT_EQ(parse_ip(outcome.packet())->options, (Bytes{0x94, 4, 0, 0}));
    return;
  }
  const Bytes headers = Bytes{17, 0, 1, 4, 0, 0, 0, 0};  // destination options: padding
  const Bytes packet = ip_packet(sent.from.address, sent.to.address, 60, 64, headers + udp_bytes(sent));
  const Outcome outcome = run(packet, true);
  EXPECT_EQ(outcome.action, kRedirect);
  const Datagram should = translated(sent, true);
  EXPECT_EQ(Bytes(outcome.packet().begin(), outcome.packet().end()),
            ip_packet(should.from.address, should.to.address, 60, 63, headers + udp_bytes(should)));
}

TEST_P(Datagrams, that_the_kernel_keeps_together_are_counted_one_by_one) {
  const Outcome outcome = run(packet_of(datagram(true, 1200)), true, 600);
  EXPECT_EQ(outcome.action, kRedirect);
  EXPECT_EQ(traffic()->packets_up, 2U);
  EXPECT_EQ(traffic()->bytes_up, 1200U);
}

TEST_P(Datagrams, are_counted_without_headers_and_with_their_time) {
  for (int i = 0; i < 3; ++i) run(packet_of(datagram(true, 10)), true);
  run(packet_of(datagram(false, 500)), false);
  const auto seen = traffic();
  ASSERT_TRUE(seen);
  EXPECT_EQ(std::tuple(seen->packets_up, seen->bytes_up, seen->packets_down, seen->bytes_down),
            std::tuple(3U, 30U, 1U, 500U));
  EXPECT_LT(seen->idle, std::chrono::seconds(10));
}

TEST_P(Datagrams, of_others_and_fragments_are_left_alone) {
  Datagram other = datagram(true);
  other.from.port = Port{40001};
  EXPECT_EQ(run(packet_of(other), true).action, kNext);
  Datagram last_hop = datagram(true);
  last_hop.hops = 1;
  EXPECT_EQ(run(packet_of(last_hop), true).action, kNext) << "the relay says that it has expired";
  const Datagram sent = datagram(true, 64);
  if (GetParam() == Family::ipv4) {
    for (const int fragment : {0x2000, 0x2001, 0x0001})
      EXPECT_EQ(run(packet_of(sent, {}, static_cast<std::uint16_t>(fragment)), true).action, kNext);
  } else {
    for (const std::uint8_t fragment : Bytes{0x01, 0x08, 0x09})
      EXPECT_EQ(run(ip_packet(sent.from.address, sent.to.address, 44, 64,
                              Bytes{17, 0, 0, fragment, 1, 2, 3, 4} + udp_bytes(sent)),
                    true)
                    .action,
                kNext);
  }
  EXPECT_EQ(traffic()->packets_up, 0U);
}

TEST_P(Datagrams, with_impossible_lengths_are_left_alone) {
  const std::size_t header = GetParam() == Family::ipv4 ? 20 : 40;
  for (const unsigned length : {0U, 7U, 109U, 65535U}) {
    Bytes packet = packet_of(datagram(true));
    put16(packet, header + 4, length);
    EXPECT_EQ(run(packet, true).action, kNext) << length;
  }
}

TEST_P(Datagrams, that_are_too_big_are_answered_or_left_to_be_fragmented) {
  const bool ipv4 = GetParam() == Family::ipv4;
  net_->router.command("iproute2", {"ip", "link", "set", "wan", "mtu", "1280"});
  const Datagram sent = datagram(true, 1400);
  const Outcome outcome = run(packet_of(sent), true);
  EXPECT_EQ(outcome.action, kRedirect);
  const auto answer = parse_ip(outcome.packet());
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->to, sent.from.address);
  EXPECT_EQ(answer->payload[0], ipv4 ? 3 : 2);
  EXPECT_EQ(get32(answer->payload, 4), 1280U);
  if (ipv4) {
    EXPECT_EQ(run(packet_of(sent, {}, 0), true).action, kNext);
  }
  EXPECT_EQ(run(packet_of(sent), true, 600).action, kRedirect) << "it leaves in pieces that fit";
  net_->router.command("iproute2", {"ip", "link", "set", "wan", "mtu", "1500"});
  EXPECT_EQ(traffic()->bytes_up, 1400U);
}

TEST_P(Datagrams, without_a_way_are_left_alone) {
  const std::string host = std::string(server_address(GetParam())) + (GetParam() == Family::ipv4 ? "/32" : "/128");
  net_->router.command("iproute2", {"ip", "route", "add", "unreachable", host});
  EXPECT_EQ(run(packet_of(datagram(true)), true).action, kNext);
  net_->router.command("iproute2", {"ip", "route", "del", "unreachable", host});
  expect_translation(datagram(true), true);
}

TEST_P(Datagrams, that_errors_quote_are_translated_back) {
  const bool ipv4 = GetParam() == Family::ipv4;
  const IpAddress reporter = *IpAddress::parse(ipv4 ? "198.51.100.200" : "2001:db8:2::200");
  for (const bool up : {true, false}) {
    for (const bool summed : {true, false}) {
      Datagram sent = datagram(up, 300);
      sent.summed = summed || !ipv4;
      const Bytes quotation = packet_of(translated(sent, up));
      for (const IpAddress& from : {reporter, translated(sent, up).to.address}) {
        const Outcome outcome = run(ipv4 ? icmp_error(from, translated(sent, up).from.address, 3, 3, 0, quotation)
                                         : icmp_error(from, translated(sent, up).from.address, 1, 4, 0, quotation),
                                    !up);
        EXPECT_EQ(outcome.action, kRedirect);
        const auto ip = parse_ip(outcome.packet());
        ASSERT_TRUE(ip);
        EXPECT_EQ(ip->from, from == reporter ? reporter : sent.to.address);
        EXPECT_EQ(ip->to, sent.from.address);
        Sum sum;
        sum.add(ip->payload);
        EXPECT_EQ(ipv4 ? sum.value() : checksum_over(ip->from, ip->to, 58, ip->payload), 0);
        Datagram should = sent;
        --should.hops;
        EXPECT_EQ(parse_datagram(std::span(ip->payload).subspan(8)), should) << "as it was when it came here";
      }
    }
  }
  EXPECT_EQ(counter("errors translated"), 8U);
}

TEST_P(Datagrams, with_equal_legs_only_travel_on) {
  CutThroughSession same = session_;
  same.legs.client.port = Port{40100};
  same.legs.original_destination = same.legs.target;
  same.legs.source = same.legs.client;
  net_->router.run([&] { must(cut_->datagrams().begin(same), "begin"); });
  for (const bool up : {true, false}) {
    Datagram sent{.from = up ? same.legs.client : same.legs.target,
                  .to = up ? same.legs.target : same.legs.client,
                  .payload = Bytes(50, 3)};
    const Outcome outcome = run(packet_of(sent), up);
    EXPECT_EQ(outcome.action, kRedirect);
    --sent.hops;
    EXPECT_EQ(parse_datagram(outcome.packet()), sent);
  }
}

TEST_P(Datagrams, of_a_session_are_forwarded_until_it_ends) {
  CutDatagrams& datagrams = cut_->datagrams();
  EXPECT_TRUE(datagrams.taken(legs().client, legs().original_destination));
  EXPECT_TRUE(datagrams.taken(legs().target, legs().source));
  EXPECT_FALSE(datagrams.taken(legs().source, legs().target));
  run(packet_of(datagram(true, 10)), true);
  const auto last = datagrams.end(legs().client, legs().original_destination);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->bytes_up, 10U);
  EXPECT_FALSE(datagrams.end(legs().client, legs().original_destination));
  EXPECT_FALSE(datagrams.taken(legs().client, legs().original_destination));
  EXPECT_EQ(run(packet_of(datagram(true)), true).action, kNext);
  EXPECT_EQ(run(packet_of(datagram(false)), false).action, kNext);
}

TEST_P(Datagrams, of_impossible_sessions_are_refused) {
  CutDatagrams& datagrams = cut_->datagrams();
  const auto code_of = [&](const CutThroughSession& session) {
    const auto begun = net_->router.run([&] { return datagrams.begin(session); });
    return begun ? 0 : begun.error().code;
  };
  EXPECT_EQ(code_of(session_), EEXIST);
  CutThroughSession other = session_;
  other.legs.client.port = Port{40002};
  EXPECT_EQ(code_of(other), EEXIST) << "the same source and target as another session";
  EXPECT_FALSE(datagrams.taken(other.legs.client, other.legs.original_destination)) << "half a session";
  EXPECT_TRUE(datagrams.taken(legs().target, legs().source)) << "the other's";
  const bool ipv4 = GetParam() == Family::ipv4;
  other.legs.source.port = Port{51235};
  for (const char* address :
       ipv4 ? std::initializer_list<const char*>{"127.0.0.1", "224.0.0.5", "255.255.255.255", "169.254.1.1", "0.0.0.0"}
            : std::initializer_list<const char*>{"::1", "ff02::5", "fe80::1", "::"}) {
    CutThroughSession bad = other;
    bad.legs.target.address = *IpAddress::parse(address);
    EXPECT_EQ(code_of(bad), EINVAL) << address;
  }
  CutThroughSession mixed = other;
  mixed.legs.target = at(server_address(ipv4 ? Family::ipv6 : Family::ipv4), 53);
  EXPECT_EQ(code_of(mixed), EAFNOSUPPORT);
  CutThroughSession local = other;
  local.legs.target.address = *IpAddress::parse(ipv4 ? "198.51.100.1" : "2001:db8:2::1");
  EXPECT_EQ(code_of(local), ENETUNREACH);
  EXPECT_EQ(code_of(other), 0);
}

TEST_P(Datagrams, leave_a_record_once_nobody_keeps_their_session) {
  run(packet_of(datagram(true, 10)), true);
  run(packet_of(datagram(false, 20)), false);
  CutDatagrams& datagrams = cut_->datagrams();
  datagrams.add(legs().client, legs().original_destination, 5, 7);
  std::vector<CutThroughSessionRecord> records;
  const auto sink = [&](const CutThroughSessionRecord& record) { records.push_back(record); };
  datagrams.collect(sink);
  EXPECT_TRUE(records.empty()) << "it is not silent";
  // Another process takes over, and waits for nobody.
  net_->router.run([&] {
    auto next = must(CutThrough::open({.name = "packets", .datagrams = {.timeout = {}, .dns_timeout = {}}}), "open");
    EXPECT_EQ(next->datagrams().adopted(), 1U);
    next->datagrams().collect(sink);
  });
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].session.legs.client, legs().client);
  EXPECT_EQ(records[0].session.legs.original_destination, legs().original_destination);
  EXPECT_EQ(records[0].session.legs.source, legs().source);
  EXPECT_EQ(records[0].session.legs.target, legs().target);
  EXPECT_EQ(records[0].session.bytes_up, 1015U);
  EXPECT_EQ(records[0].session.bytes_down, 2027U);
  EXPECT_FALSE(records[0].stopped);
  EXPECT_FALSE(traffic());
}

TEST_P(Datagrams, of_a_kept_session_are_its_keepers_while_that_lives) {
  net_->router.run([&] {
    auto keeper = must(CutThrough::open({.name = "packets", .datagrams = {.timeout = {}, .dns_timeout = {}}}), "open");
    CutDatagrams& datagrams = keeper->datagrams();
    EXPECT_TRUE(datagrams.end(legs().client, legs().original_destination));
    CutThroughSession kept = session_;
    kept.kept = true;
    must(datagrams.begin(kept), "begin");
    std::vector<CutThroughSessionRecord> records;
    const auto sink = [&](const CutThroughSessionRecord& record) { records.push_back(record); };
    datagrams.collect(sink);
    EXPECT_TRUE(records.empty());
    // As if it had been killed.
    auto next = must(CutThrough::open({.name = "packets", .datagrams = {.timeout = {}, .dns_timeout = {}}}), "open");
    next->datagrams().collect(sink);
    EXPECT_EQ(records.size(), 1U);
  });
}

INSTANTIATE_TEST_SUITE_P(Families, Datagrams, testing::Values(Family::ipv4, Family::ipv6), family_name);

}  // namespace
}  // namespace limpid::segments
