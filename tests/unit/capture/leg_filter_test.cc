// The filter runs in the kernel, on a socket pair whose datagrams are IP packets; find_leg() is its slow oracle.
#include "capture/leg_filter.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <random>

#include "limpid/unique_fd.h"
#include "net/packet.h"

namespace limpid {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint32_t kSnaplen = 1000;

SocketAddress at(const char* text) {
  return SocketAddress::parse(text).value();
}

class Sieve {
 public:
  explicit Sieve(const CapturedFlow& flow) {
    std::array<int, 2> pair{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()), 0);
    in_ = UniqueFd(pair[0]);
    out_ = UniqueFd(pair[1]);
    auto filter = build_filter(flow, kSnaplen);
    const sock_fprog program{.len = static_cast<std::uint16_t>(filter.size()), .filter = filter.data()};
    EXPECT_EQ(setsockopt(out_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
  }
  /// How many bytes of it the filter lets through; 0: none.
  [[nodiscard]] std::size_t pass(std::span<const std::byte> packet) const {
    (void)::send(in_.get(), packet.data(), packet.size(), 0);  // the sender of what a filter refuses may hear EPERM
    std::array<std::byte, 4096> room{};
    const ssize_t count = ::recv(out_.get(), room.data(), room.size(), 0);
    return count > 0 ? static_cast<std::size_t>(count) : 0;
  }

 private:
  UniqueFd in_;
  UniqueFd out_;
};

Bytes packet_of(Transport transport, const SocketAddress& from, const SocketAddress& to, std::size_t payload = 10) {
  return transport == Transport::udp ? build_datagram(from, to, Bytes(payload), {}) : build_syn(from, to, 1, {});
}

struct Hosts {
  SocketAddress client;
  SocketAddress destination;
  SocketAddress local;
  SocketAddress target;
  SocketAddress stranger;
  SocketAddress neighbour;  ///< the client's other port
};

Hosts hosts(Family family) {
  if (family == Family::ipv4)
    return {.client = at("192.0.2.2:50000"),
            .destination = at("198.51.100.2:443"),
            .local = at("192.0.2.2:50001"),
            .target = at("198.51.100.3:443"),
            .stranger = at("203.0.113.9:443"),
            .neighbour = at("192.0.2.2:50002")};
  return {.client = at("[2001:db8:1::2]:50000"),
          .destination = at("[2001:db8:2::2]:443"),
          .local = at("[2001:db8:1::2]:50001"),
          .target = at("[2001:db8:2::3]:443"),
          .stranger = at("[2001:db8:9::9]:443"),
          .neighbour = at("[2001:db8:1::2]:50002")};
}

CapturedFlow flow_of(Transport transport, const Hosts& h) {
  return {.transport = transport,
          .client_leg = {.client_side = h.client, .target_side = h.destination},
          .target_leg = LegEnds{.client_side = h.local, .target_side = h.target}};
}

class LegFilter : public testing::TestWithParam<std::tuple<Family, Transport>> {
 protected:
  Transport transport_ = std::get<1>(GetParam());
  Hosts h_ = hosts(std::get<0>(GetParam()));
  CapturedFlow flow_ = flow_of(transport_, h_);
  Transport other_ = transport_ == Transport::tcp ? Transport::udp : Transport::tcp;
};

TEST_P(LegFilter, both_directions_of_both_legs_pass_and_nothing_else) {
  const Sieve sieve(flow_);
  const std::array all{h_.client, h_.destination, h_.local, h_.target, h_.stranger, h_.neighbour};
  int passed = 0;
  for (const auto& from : all) {
    for (const auto& to : all) {
      for (const Transport transport : {transport_, other_}) {
        const auto packet = packet_of(transport, from, to);
        const auto leg = find_leg(flow_, packet, false);
        EXPECT_EQ(sieve.pass(packet) > 0, leg.has_value()) << from.to_string() << " to " << to.to_string();
        passed += leg ? 1 : 0;
        if (transport != Transport::udp) continue;  // the builder of errors quotes datagrams
        const auto error = build_icmp_error(port_unreachable(from.family()), h_.stranger.address, from, to, {}, {});
        EXPECT_EQ(sieve.pass(error) > 0, leg.has_value()) << "about " << from.to_string() << " to " << to.to_string();
      }
    }
  }
  EXPECT_EQ(passed, 4);
}

TEST_P(LegFilter, legs_and_directions_are_told_apart) {
  const auto up = find_leg(flow_, packet_of(transport_, h_.client, h_.destination), false);
  ASSERT_TRUE(up);
  EXPECT_TRUE(up->up && !up->target_leg);
  const auto down = find_leg(flow_, packet_of(transport_, h_.target, h_.local), false);
  ASSERT_TRUE(down);
  EXPECT_TRUE(!down->up && down->target_leg);
  const auto error =
      build_icmp_error(time_exceeded(h_.client.family()), h_.stranger.address, h_.local, h_.target, {}, {});
  const auto about = find_leg(flow_of(Transport::udp, h_), error, false);
  ASSERT_TRUE(about);
  EXPECT_TRUE(!about->up && about->target_leg) << "it goes to whoever had sent up";
}

TEST_P(LegFilter, legs_of_the_same_ends_are_told_apart_by_where_packets_go) {
  const LegEnds same{.client_side = h_.client, .target_side = h_.destination};
  const CapturedFlow flow{.transport = transport_, .client_leg = same, .target_leg = same};
  const auto up = packet_of(transport_, h_.client, h_.destination);
  const auto down = packet_of(transport_, h_.destination, h_.client);
  EXPECT_FALSE(find_leg(flow, up, /*outgoing=*/false)->target_leg);
  EXPECT_TRUE(find_leg(flow, up, /*outgoing=*/true)->target_leg);
  EXPECT_TRUE(find_leg(flow, down, /*outgoing=*/false)->target_leg);
  EXPECT_FALSE(find_leg(flow, down, /*outgoing=*/true)->target_leg);
}

TEST_P(LegFilter, any_end_and_any_address) {
  const SocketAddress anywhere{.address = IpAddress::any(h_.local.family()), .port = h_.local.port};
  const CapturedFlow flow{.transport = transport_,
                          .client_leg = {.client_side = h_.client, .target_side = {}},
                          .target_leg = LegEnds{.client_side = anywhere, .target_side = h_.target}};
  const Sieve sieve(flow);
  for (const auto& [from, to, wanted] :
       {std::tuple{h_.client, h_.stranger, true}, std::tuple{h_.stranger, h_.client, true},
        std::tuple{h_.neighbour, h_.stranger, false}, std::tuple{h_.local, h_.target, true},
        std::tuple{h_.target, h_.local, true}, std::tuple{h_.local, h_.stranger, false}}) {
    const auto packet = packet_of(transport_, from, to);
    EXPECT_EQ(sieve.pass(packet) > 0, wanted) << from.to_string() << " to " << to.to_string();
    EXPECT_EQ(find_leg(flow, packet, false).has_value(), wanted);
  }
}

TEST_P(LegFilter, packets_are_cut_and_later_fragments_stay_outside) {
  const CapturedFlow flow = flow_of(Transport::udp, h_);
  const Sieve sieve(flow);
  const auto packet = packet_of(Transport::udp, h_.client, h_.destination, 3000);
  EXPECT_EQ(sieve.pass(packet), kSnaplen);
  const auto fragments = fragment_packet(packet, 1280, 7);
  ASSERT_EQ(fragments.size(), 3U);
  const bool ipv4 = h_.client.family() == Family::ipv4;  // IPv6 has a header of its own for fragments
  EXPECT_EQ(sieve.pass(fragments[0]), ipv4 ? kSnaplen : 0);
  for (const auto& fragment : fragments)
    EXPECT_EQ(sieve.pass(fragment) > 0, find_leg(flow, fragment, false).has_value());
  EXPECT_EQ(sieve.pass(fragments[1]) + sieve.pass(fragments[2]), 0U);
}

TEST_P(LegFilter, damaged_packets_pass_one_of_the_two_at_most_and_harm_none) {
  const Sieve sieve(flow_);
  std::mt19937 random(7);
  const auto whole = packet_of(transport_, h_.client, h_.destination);
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_EQ(find_leg(flow_, cut, false).has_value(), sieve.pass(cut) > 0) << length;
  }
  for (int i = 0; i < 3000; ++i) {
    auto damaged = random() % 2 == 0 ? whole
                                     : build_icmp_error(port_unreachable(h_.client.family()), h_.stranger.address,
                                                        h_.client, h_.destination, {}, {});
    damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    // Options in what an error quotes are understood by one of them only.
    if (sieve.pass(damaged) == 0) continue;
    const auto leg = find_leg(flow_, damaged, false);
    EXPECT_TRUE(!leg || !leg->target_leg);
  }
}

INSTANTIATE_TEST_SUITE_P(families, LegFilter,
                         testing::Combine(testing::Values(Family::ipv4, Family::ipv6),
                                          testing::Values(Transport::tcp, Transport::udp)));

TEST(LegFilterMixed, the_client_speaks_ipv4_and_the_target_ipv6) {
  const Hosts four = hosts(Family::ipv4);
  const Hosts six = hosts(Family::ipv6);
  const CapturedFlow flow{.transport = Transport::tcp,
                          .client_leg = {.client_side = four.client, .target_side = four.destination},
                          .target_leg = LegEnds{.client_side = six.local, .target_side = six.target}};
  const Sieve sieve(flow);
  EXPECT_GT(sieve.pass(packet_of(Transport::tcp, four.client, four.destination)), 0U);
  EXPECT_GT(sieve.pass(packet_of(Transport::tcp, six.target, six.local)), 0U);
  EXPECT_EQ(sieve.pass(packet_of(Transport::tcp, six.client, six.destination)), 0U);
  EXPECT_EQ(sieve.pass(packet_of(Transport::tcp, four.local, four.target)), 0U);
}

}  // namespace
}  // namespace limpid
