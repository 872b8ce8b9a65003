// What the eBPF programs decide about packets, by BPF_PROG_TEST_RUN of the loaded program in a network namespace with a listener and a way out.
#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>

#include "intercept/ebpf_programs.h"
#include "tests/kernel/testbed.h"
#include "tests/unit/intercept/ebpf_frames.h"

namespace limpid {
namespace {

using frames::Bytes;
using testbed::must;

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;
constexpr unsigned kIpv4Type = 0x0800;
constexpr unsigned kIpv6Type = 0x86dd;

class Decision : public testing::Test {
 protected:
  void SetUp() override {
    if (auto built = require_ebpf_built_in(); !built) GTEST_SKIP() << built.error().message();
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make a network namespace and load programs";
    ASSERT_TRUE(host_.exists()) << host_.error();
    host_.run([&] {
      auto socket = must(RouteSocket::open(), "rtnetlink");
      must(socket.set_link_up("lo"), "lo");
      must(socket.add_veth("out", "peer", host_.descriptor()), "veth");
      must(socket.set_link_up("out"), "out");
      must(socket.set_link_up("peer"), "peer");
      must(socket.add_address("out", *IpAddress::parse("192.0.2.1"), 24), "address");
      must(socket.add_address("out", *IpAddress::parse("2001:db8:1::1"), 64), "address");
      link_ = static_cast<int>(::if_nametoindex("out"));
      const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      ifreq request{};
      std::strcpy(request.ifr_name, "out");
      ASSERT_EQ(::ioctl(any.get(), SIOCGIFHWADDR, &request), 0);
      std::memcpy(mac_.data(), request.ifr_hwaddr.sa_data, mac_.size());
    });
    host_.set_sysctl("net.ipv4.conf.all.forwarding", "1");
    host_.set_sysctl("net.ipv6.conf.all.forwarding", "1");
    host_.command("iproute2", {"ip", "-4", "route", "add", "default", "dev", "out"});
    host_.command("iproute2", {"ip", "-6", "route", "add", "default", "dev", "out"});
    listen();
    inputs_.scope.tcp = *PortSet::parse("80,443,8000-8100");
    inputs_.scope.udp = *PortSet::parse("53");
    inputs_.ownership.name = "limpid";
    inputs_.ownership.backend = Backend::ebpf;
    inputs_.ownership.mark = *MarkField::from({.value = 0x1000000, .mask = 0x3000000});
    inputs_.ownership.table = TableId{7676};
    inputs_.ownership.priority = RulePriority{100};
    inputs_.ownership.listener = Port{1080};
    auto loaded = host_.run([&] { return EbpfPrograms::load(inputs_.ownership); });
    ASSERT_TRUE(loaded) << loaded.error().message();
    programs_ = std::move(*loaded);
    ASSERT_TRUE(programs_->write_own(
        {*Prefix::parse("192.0.2.1"), *Prefix::parse("192.0.2.255"), *Prefix::parse("2001:db8:1::1")}));
    apply();
  }

  void listen() {
    host_.run([&] {
      for (const Family family : {Family::ipv4, Family::ipv6}) {
        for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
          UniqueFd socket(::socket(family == Family::ipv4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
          sockaddr_storage native{};
          const auto length =
              SocketAddress{.address = IpAddress::loopback(family), .port = Port{1080}}.to_native(native);
          ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&native), length), 0);
          if (type == SOCK_STREAM) {
            ASSERT_EQ(::listen(socket.get(), 1), 0);
          }
          listeners_.push_back(std::move(socket));
        }
      }
    });
  }

  void apply() {
    auto policy = make_ebpf_policy(inputs_);
    ASSERT_TRUE(policy) << policy.error().message();
    ASSERT_TRUE(programs_->write_policy(*policy));
  }

  int frame(unsigned type, const Bytes& payload, std::uint32_t mark = 0) const {
    return frame_of(frames::ethernet(mac_, type, payload), mark);
  }
  int frame_of(const Bytes& bytes, std::uint32_t mark = 0) const {
    return host_.run([&] {
      return must(
          programs_->try_packet({.frame = std::as_bytes(std::span(bytes)), .mark = mark, .link = link_, .user = {}}),
          "test run");
    });
  }
  int ipv4(const Bytes& payload, frames::Ipv4 header = {}, std::uint32_t mark = 0) const {
    return frame(kIpv4Type, frames::ipv4(header, payload), mark);
  }
  int ipv6(std::uint8_t next, const Bytes& payload) const { return frame(kIpv6Type, frames::ipv6(next, payload)); }
  int ipv4_to(std::string_view destination) const { return ipv4(frames::tcp(80), {.destination = destination}); }
  int ipv6_to(std::string_view destination) const {
    return frame(kIpv6Type, frames::ipv6(kTcp, frames::tcp(80), "2001:db8:1::2", destination));
  }

  testbed::Namespace host_;
  std::array<std::uint8_t, 6> mac_{};
  int link_ = 0;
  std::vector<UniqueFd> listeners_;
  PlanInputs inputs_;
  std::optional<EbpfPrograms> programs_;
};

TEST_F(Decision, takes_first_packets_to_ports_in_scope) {
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv4(frames::udp(53), {.protocol = kUdp}), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv6(kTcp, frames::tcp(443)), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv6(kUdp, frames::udp(53)), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv4(frames::udp(80), {.protocol = kUdp}), LIMPID_OTHER_PORT) << "UDP has ports of its own";
}

TEST_F(Decision, knows_the_edges_of_port_ranges) {
  for (const int port : {8000, 8001, 8099, 8100})
    EXPECT_EQ(ipv4(frames::tcp(static_cast<std::uint16_t>(port))), LIMPID_INTERCEPTED) << port;
  for (const int port : {0, 1, 79, 81, 442, 444, 7999, 8101, 65535})
    EXPECT_EQ(ipv4(frames::tcp(static_cast<std::uint16_t>(port))), LIMPID_OTHER_PORT) << port;
  inputs_.scope.tcp = *PortSet::parse("all");
  apply();
  for (const int port : {1, 65535})
    EXPECT_EQ(ipv4(frames::tcp(static_cast<std::uint16_t>(port))), LIMPID_INTERCEPTED) << port;
  EXPECT_EQ(ipv4(frames::tcp(0)), LIMPID_OTHER_PORT);
}

TEST_F(Decision, leaves_connections_alone_that_it_has_not_seen_begin) {
  for (const int flags : {0x10, 0x12, 0x11, 0x04, 0x00, 0x18})
    EXPECT_EQ(ipv4(frames::tcp(80, static_cast<std::uint8_t>(flags))), LIMPID_UNKNOWN_CONNECTION) << flags;
  inputs_.fail = FailMode::closed;
  apply();
  EXPECT_EQ(ipv4(frames::tcp(80, frames::kAck)), LIMPID_INTERCEPTED) << "the listener resets it";
}

TEST_F(Decision, knows_the_edges_of_networks) {
  inputs_.scope.to_prefixes = {*Prefix::parse("198.51.100.0/25"), *Prefix::parse("2001:db8:2::/64")};
  inputs_.scope.excluded = {*Prefix::parse("198.51.100.64/27"), *Prefix::parse("2001:db8:2::100/120"),
                            *Prefix::parse("198.51.100.9/32")};
  apply();
  for (const std::string_view inside :
       {"198.51.100.0", "198.51.100.8", "198.51.100.10", "198.51.100.63", "198.51.100.96", "198.51.100.127"})
    EXPECT_EQ(ipv4_to(inside), LIMPID_INTERCEPTED) << inside;
  for (const std::string_view excluded : {"198.51.100.9", "198.51.100.64", "198.51.100.95"})
    EXPECT_EQ(ipv4_to(excluded), LIMPID_EXCLUDED_DESTINATION) << excluded;
  for (const std::string_view outside : {"198.51.99.255", "198.51.100.128"})
    EXPECT_EQ(ipv4_to(outside), LIMPID_OTHER_DESTINATION) << outside;
  for (const std::string_view inside :
       {"2001:db8:2::", "2001:db8:2::ff", "2001:db8:2::200", "2001:db8:2::ffff:ffff:ffff:ffff"})
    EXPECT_EQ(ipv6_to(inside), LIMPID_INTERCEPTED) << inside;
  EXPECT_EQ(ipv6_to("2001:db8:2::100"), LIMPID_EXCLUDED_DESTINATION);
  EXPECT_EQ(ipv6_to("2001:db8:2::1ff"), LIMPID_EXCLUDED_DESTINATION);
  EXPECT_EQ(ipv6_to("2001:db8:1:ffff:ffff:ffff:ffff:ffff"), LIMPID_OTHER_DESTINATION);
  EXPECT_EQ(ipv6_to("2001:db8:2:1::"), LIMPID_OTHER_DESTINATION);
}

TEST_F(Decision, chooses_by_source) {
  inputs_.scope.from_prefixes = {*Prefix::parse("192.0.2.2/32")};
  apply();
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv4(frames::tcp(80), {.source = "192.0.2.3"}), LIMPID_OTHER_SOURCE);
  EXPECT_EQ(ipv6(kTcp, frames::tcp(80)), LIMPID_OTHER_SOURCE) << "a network of IPv4 holds nothing of IPv6";
  ASSERT_TRUE(programs_->write_link(link_, {.selected = 1, .headless = 0, .clsact = 0, .own_clsact = 0}));
  EXPECT_EQ(ipv4(frames::tcp(80), {.source = "192.0.2.3"}), LIMPID_INTERCEPTED) << "or by interface";
}

TEST_F(Decision, never_takes_what_is_meant_for_this_host_or_for_many) {
  inputs_.scope.udp = *PortSet::parse("all");
  apply();
  for (const std::string_view own :
       {"192.0.2.1", "192.0.2.255", "127.0.0.1", "169.254.1.1", "224.0.0.251", "255.255.255.255", "0.0.0.0"})
    EXPECT_EQ(ipv4_to(own), LIMPID_LOCAL_DESTINATION) << own;
  for (const std::string_view own : {"2001:db8:1::1", "::1", "fe80::1", "ff02::fb", "::"})
    EXPECT_EQ(ipv6_to(own), LIMPID_LOCAL_DESTINATION) << own;
  EXPECT_EQ(frame_of(frames::ethernet({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kIpv4Type,
                                      frames::ipv4({.destination = "192.0.2.255", .protocol = kUdp}, frames::udp(53)))),
            LIMPID_NOT_ADDRESSED);
  EXPECT_EQ(frame_of(frames::ethernet({2, 2, 2, 2, 2, 2}, kIpv4Type, frames::ipv4({}, frames::tcp(80)))),
            LIMPID_NOT_ADDRESSED)
      << "somebody else's frame";
}

TEST_F(Decision, destinations_without_a_route_are_taken_where_the_own_addresses_are_known) {
  host_.command("iproute2", {"ip", "-4", "route", "del", "default"});
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv4_to("192.0.2.1"), LIMPID_LOCAL_DESTINATION);
  inputs_.ownership.keeper = Keeper::permanent;
  apply();
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_LOCAL_DESTINATION)
      << "nobody keeps the list: it might be an address that was added since";
}

TEST_F(Decision, without_forwarding_the_list_of_own_addresses_decides) {
  host_.set_sysctl("net.ipv4.conf.all.forwarding", "0");
  host_.set_sysctl("net.ipv6.conf.all.forwarding", "0");
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv6(kTcp, frames::tcp(80)), LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv4_to("192.0.2.1"), LIMPID_LOCAL_DESTINATION);
  EXPECT_EQ(ipv6_to("2001:db8:1::1"), LIMPID_LOCAL_DESTINATION);
}

TEST_F(Decision, leaves_own_sockets_and_other_families_alone) {
  EXPECT_EQ(ipv4(frames::tcp(80), {}, 0x2000000), LIMPID_OWN_SOCKET);
  EXPECT_EQ(ipv4(frames::tcp(80), {}, 0x40), LIMPID_INTERCEPTED) << "others' bits mean nothing";
  inputs_.scope.ipv6 = false;
  apply();
  EXPECT_EQ(ipv6(kTcp, frames::tcp(80)), LIMPID_OTHER_FAMILY);
  EXPECT_EQ(frame(0x0806, Bytes(28)), LIMPID_OTHER_PROTOCOL) << "ARP";
  EXPECT_EQ(ipv4(Bytes(64), {.protocol = 47}), LIMPID_OTHER_PROTOCOL) << "GRE";
}

TEST_F(Decision, without_a_listener_the_fail_mode_decides) {
  listeners_.clear();
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_NOBODY_LISTENS);
  EXPECT_EQ(ipv6(kUdp, frames::udp(53)), LIMPID_NOBODY_LISTENS);
  inputs_.fail = FailMode::closed;
  apply();
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_REJECTED);
  EXPECT_EQ(ipv4(frames::tcp(80, frames::kAck)), LIMPID_REJECTED);
  EXPECT_EQ(ipv6(kUdp, frames::udp(53)), LIMPID_REJECTED);
}

TEST_F(Decision, draining_takes_nothing_new) {
  ASSERT_TRUE(programs_->begin_drain());
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_NOBODY_LISTENS);
  apply();
  EXPECT_EQ(ipv4(frames::tcp(80)), LIMPID_INTERCEPTED);
}

TEST_F(Decision, leaves_tagged_frames_to_the_interface_of_the_vlan) {
  const Bytes inner = frames::u16(kIpv4Type);
  EXPECT_EQ(
      frame(0x8100, frames::operator+(frames::operator+(frames::u16(5), inner), frames::ipv4({}, frames::tcp(80)))),
      LIMPID_TAGGED);
  EXPECT_EQ(frame(0x88a8, Bytes(64)), LIMPID_TAGGED);
}

TEST_F(Decision, options_of_ipv4_do_not_hide_the_ports) {
  for (const int words : {6, 10, 15})
    EXPECT_EQ(ipv4(frames::tcp(80), {.words = static_cast<std::uint8_t>(words)}), LIMPID_INTERCEPTED) << words;
  EXPECT_EQ(ipv4(frames::tcp(80), {.words = 4}), LIMPID_MALFORMED);
}

TEST_F(Decision, extension_headers_of_ipv6_do_not_hide_the_ports) {
  using frames::operator+;
  using frames::extension;
  const Bytes segment = frames::tcp(80);
  for (const int header : {0, 43, 60})
    EXPECT_EQ(ipv6(static_cast<std::uint8_t>(header), extension(kTcp, 3) + segment), LIMPID_INTERCEPTED) << header;
  EXPECT_EQ(ipv6(0, extension(60) + extension(43, 1) + extension(60, 2) + extension(kTcp) + segment),
            LIMPID_INTERCEPTED);
  EXPECT_EQ(ipv6(51, Bytes{kTcp, 4} + Bytes(22) + segment), LIMPID_INTERCEPTED)
      << "an authentication header counts in words of four";
  EXPECT_EQ(ipv6(44, frames::fragment_header(kTcp, 0) + segment), LIMPID_INTERCEPTED) << "an atomic fragment is whole";
  EXPECT_EQ(ipv6(0, Bytes{kTcp, 255}), LIMPID_MALFORMED);
  EXPECT_EQ(ipv6(59, segment), LIMPID_OTHER_PROTOCOL) << "no next header";
}

TEST_F(Decision, too_many_extension_headers_do_not_pass_what_is_fail_closed) {
  using frames::operator+;
  Bytes many;
  for (int i = 0; i < 20; ++i) many = many + frames::extension(60);
  many = many + frames::extension(kTcp) + frames::tcp(80);
  EXPECT_EQ(ipv6(60, many), LIMPID_FRAGMENT);
  inputs_.fail = FailMode::closed;
  apply();
  EXPECT_EQ(ipv6(60, many), LIMPID_DROPPED);
}

TEST_F(Decision, fragments_pass_or_are_dropped_as_the_fail_mode_says) {
  using frames::operator+;
  const auto each = [&](int expected) {
    for (const unsigned fragment : {0x2000U, 0x0001U, 0x2001U, 0x1fffU}) {
      EXPECT_EQ(ipv4(frames::udp(53), {.protocol = kUdp, .fragment = fragment}), expected) << fragment;
    }
    EXPECT_EQ(ipv4(frames::tcp(80), {.fragment = 0x2000}), expected);
    for (const unsigned fragment : {0x0001U, 0x0008U, 0xfff8U, 0xfff9U})
      EXPECT_EQ(ipv6(44, frames::fragment_header(kUdp, fragment) + frames::udp(53)), expected) << fragment;
  };
  each(LIMPID_FRAGMENT);
  EXPECT_EQ(ipv4(frames::udp(53), {.protocol = kUdp, .fragment = 0x4000}), LIMPID_INTERCEPTED)
      << "don't fragment is no fragment";
  inputs_.fail = FailMode::closed;
  apply();
  each(LIMPID_DROPPED);
  EXPECT_EQ(ipv4(frames::udp(53), {.destination = "192.0.2.1", .protocol = kUdp, .fragment = 0x2000}), LIMPID_FRAGMENT)
      << "its own are its own";
}

TEST_F(Decision, truncated_packets_are_malformed_wherever_they_end) {
  using frames::operator+;
  const Bytes whole4 = frames::ipv4({}, frames::tcp(80));
  for (std::size_t length = 20; length < whole4.size(); ++length)
    EXPECT_EQ(frame(kIpv4Type, Bytes(whole4.begin(), whole4.begin() + static_cast<std::ptrdiff_t>(length))),
              LIMPID_MALFORMED)
        << length;
  const Bytes whole6 = frames::ipv6(0, frames::extension(60, 1) + frames::extension(kTcp) + frames::tcp(80));
  for (std::size_t length = 40; length < whole6.size(); ++length)
    EXPECT_EQ(frame(kIpv6Type, Bytes(whole6.begin(), whole6.begin() + static_cast<std::ptrdiff_t>(length))),
              LIMPID_MALFORMED)
        << length;
  const Bytes datagram = frames::ipv4({.protocol = kUdp}, frames::udp(53));
  EXPECT_EQ(frame(kIpv4Type, Bytes(datagram.begin(), datagram.begin() + 27)), LIMPID_MALFORMED);
  EXPECT_EQ(frame(kIpv4Type, Bytes(datagram.begin(), datagram.begin() + 28)), LIMPID_INTERCEPTED)
      << "an empty datagram";
}

TEST_F(Decision, random_packets_have_some_decision) {
  std::mt19937 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same packets each time
  for (int i = 0; i < 2000; ++i) {
    Bytes bytes(40 + random() % 120);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    bytes[0] = static_cast<std::uint8_t>(i % 2 == 0 ? 0x45 : 0x60);
    if (i % 2 == 1) bytes[6] = static_cast<std::uint8_t>(std::array{0, 43, 44, 51, 60, 6, 17, 58}[random() % 8]);
    const int decision = frame(i % 2 == 0 ? kIpv4Type : kIpv6Type, bytes);
    EXPECT_GE(decision, 0);
    EXPECT_LT(decision, LIMPID_DECISIONS);
  }
}

TEST_F(Decision, errors_about_unknown_packets_are_forwarded) {
  using frames::operator+;
  const Bytes quoted = frames::ipv4({.source = "198.51.100.2", .destination = "192.0.2.2"}, frames::tcp(80));
  EXPECT_EQ(ipv4(Bytes{3, 3} + Bytes(6) + quoted, {.protocol = 1}), LIMPID_UNKNOWN_CONNECTION);
  EXPECT_EQ(ipv4(Bytes{8, 0} + Bytes(6) + quoted, {.protocol = 1}), LIMPID_OTHER_PROTOCOL) << "an echo request";
  EXPECT_EQ(ipv4(Bytes{3, 3} + Bytes(6), {.protocol = 1}), LIMPID_MALFORMED);
}

TEST_F(Decision, a_policy_is_read_back_as_it_was_written) {
  inputs_.scope.tcp = *PortSet::parse("1,80-90,65535");
  inputs_.scope.from_interfaces = {"wlan-0", "lan"};
  inputs_.scope.from_prefixes = {*Prefix::parse("10.0.0.0/8"), *Prefix::parse("0.0.0.0/0"), *Prefix::parse("::/0")};
  inputs_.scope.to_prefixes = {*Prefix::parse("::ffff:0:0/96"), *Prefix::parse("2001:db8::/32")};
  inputs_.scope.local =
      LocalScope{.only = {.users = {{.first = 1, .last = 9}}, .groups = {}, .cgroups = {}}, .never = {}};
  const auto wanted = make_ebpf_policy(inputs_);
  ASSERT_TRUE(wanted);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(programs_->write_policy(*wanted));
    const auto read = programs_->read_policy();
    ASSERT_TRUE(read);
    EXPECT_EQ(to_lines(*read), to_lines(*wanted));
    EXPECT_EQ(read->networks.size(), wanted->networks.size());
    EXPECT_EQ(scope_of(*read).tcp.to_string(), "1,80-90,65535");
  }
}

}  // namespace
}  // namespace limpid
