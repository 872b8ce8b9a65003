// Flows that are really cut through: a client and a server in namespaces of their own, and the router between them, which drops its sockets.
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <span>

#include "tests/unit/cutthrough/legs.h"

namespace limpid::testbed {
namespace {

using namespace std::chrono_literals;

class RealFlow : public CutThroughTest, public testing::WithParamInterface<Family> {
 protected:
  void expect_full_duplex(Relayed flow);
};

/// A stream whose every octet is known from its place: random blocks of 1 MiB, each with its number in front.
class Stream {
 public:
  explicit Stream(unsigned seed) : block_(1U << 20U) {
    std::minstd_rand random(seed);
    for (char& octet : block_) octet = static_cast<char>(random());
  }
  /// What comes at `place`, to the end of its block.
  std::span<const char> from(std::uint64_t place) {
    const std::uint64_t number = place / block_.size();
    std::memcpy(block_.data(), &number, sizeof number);
    return std::span<const char>(block_).subspan(place % block_.size());
  }

 private:
  std::vector<char> block_;
};

/// Sends that many octets, then shuts down.
void send_stream(int fd, std::uint64_t bytes, unsigned seed) {
  Stream stream(seed);
  for (std::uint64_t at = 0; at < bytes;) {
    const auto piece = stream.from(at);
    const ssize_t length = ::send(fd, piece.data(), std::min<std::uint64_t>(piece.size(), bytes - at), MSG_NOSIGNAL);
    if (length >= 0) {
      at += static_cast<std::uint64_t>(length);
    } else if (errno != EAGAIN || !wait_for(fd, POLLOUT, 20s)) {
      ADD_FAILURE() << "send: " << errno << " after " << at;
      return;
    }
  }
  ::shutdown(fd, SHUT_WR);
}

/// How many octets of that stream arrived until the end; -1: others.
std::int64_t receive_stream(int fd, unsigned seed) {
  Stream stream(seed);
  std::vector<char> buffer(262144);
  for (std::uint64_t at = 0;;) {
    const ssize_t length = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (length < 0 && errno == EAGAIN && wait_for(fd, POLLIN, 20s)) continue;
    if (length < 0) {
      ADD_FAILURE() << "recv: " << errno << " after " << at;
      return -1;
    }
    if (length == 0) return static_cast<std::int64_t>(at);
    for (std::span<const char> arrived(buffer.data(), static_cast<std::size_t>(length)); !arrived.empty();) {
      const auto expected = stream.from(at);
      const std::size_t part = std::min(arrived.size(), expected.size());
      if (std::memcmp(arrived.data(), expected.data(), part) != 0) {
        ADD_FAILURE() << "other octets behind " << at;
        return -1;
      }
      arrived = arrived.subspan(part);
      at += part;
    }
  }
}

TEST_P(RealFlow, goes_on_without_the_sockets) {
  Relayed flow = connect(GetParam());
  send_text(flow.client, "before");
  ASSERT_TRUE(wait_for(flow.client_leg.get(), POLLIN, kPatience));
  flow.relay();
  EXPECT_EQ(receive_text(flow.server), "before");
  const CutThroughId id = cut(flow);
  expect_conversation(flow.client, flow.server);
  expect_conversation(flow.server, flow.client);
  const CutThroughState state = must(cut_->look(id), "look");
  EXPECT_EQ(state.phase, CutThroughPhase::alone);
  EXPECT_EQ(state.bytes_up, 6U + 5 + 8);
  EXPECT_EQ(state.bytes_down, 5U + 8);
  EXPECT_EQ(cut_->flows(), 1U);
  EXPECT_EQ(counter("failed"), 0U);
}

TEST_P(RealFlow, ends_on_both_sides_and_is_recorded_once) {
  Relayed flow = connect(GetParam());
  const CutThroughId id = cut(flow);
  expect_conversation(flow.client, flow.server);
  ::shutdown(flow.client.get(), SHUT_WR);
  EXPECT_EQ(receive_text(flow.server), "");
  await(id, [](const CutThroughState& s) { return s.client_finished; });
  EXPECT_TRUE(collect().empty());
  send_text(flow.server, "the other half");
  EXPECT_EQ(receive_text(flow.client), "the other half");
  ::shutdown(flow.server.get(), SHUT_WR);
  EXPECT_EQ(receive_text(flow.client), "");
  await(id, [](const CutThroughState& s) { return s.closed; });
  const auto records = collect();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].end, CutThroughEnd::closed);
  EXPECT_EQ(records[0].facts.bytes_up, 5U);
  EXPECT_EQ(records[0].facts.bytes_down, 8U + 14);
  EXPECT_EQ(records[0].facts.client, name_of(flow.client.get(), false));
  EXPECT_TRUE(collect().empty());
  EXPECT_EQ(cut_->flows(), 0U);
}

/// Segments of their real size, with checksums that are really there.
void turn_offloads_off(const char* link) {
  const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  for (const int what : {ETHTOOL_SGRO, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SSG, ETHTOOL_STXCSUM, ETHTOOL_SRXCSUM}) {
    ethtool_value value{.cmd = static_cast<std::uint32_t>(what), .data = 0};
    ifreq request{};
    std::strcpy(request.ifr_name, link);
    request.ifr_data = reinterpret_cast<char*>(&value);
    if (::ioctl(any.get(), SIOCETHTOOL, &request) != 0) {
      EXPECT_EQ(what, ETHTOOL_SRXCSUM) << link << ' ' << errno << ": it may be fixed";
    }
  }
}

/// $LIMPID_CUT_GIB: more than four of them, and sequence numbers wrap around in both directions.
std::uint64_t stream_bytes() {
  const char* wanted = std::getenv("LIMPID_CUT_GIB");
  return wanted == nullptr ? 64ULL << 20U : std::strtoull(wanted, nullptr, 10) << 30U;
}

/// Both directions at once, and the flip in the middle of them.
void RealFlow::expect_full_duplex(Relayed flow) {
  const std::uint64_t bytes = stream_bytes();
  std::array<std::int64_t, 2> received{};
  std::thread up_sender([&] { send_stream(flow.client.get(), bytes, 1); });
  std::thread down_sender([&] { send_stream(flow.server.get(), bytes, 2); });
  std::thread up_receiver([&] { received[0] = receive_stream(flow.server.get(), 1); });
  std::thread down_receiver([&] { received[1] = receive_stream(flow.client.get(), 2); });
  // Relays by hand until a moment without bytes in our hands; the windows' edges are not looked at, so something may be lost and sent again.
  for (int i = 0; i < 50; ++i) flow.relay();
  const CutThroughId id = begin(flow);
  settle(flow, id);
  const auto begun = std::chrono::steady_clock::now();
  for (std::thread* thread : {&up_sender, &down_sender, &up_receiver, &down_receiver}) thread->join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  EXPECT_EQ(received[0], static_cast<std::int64_t>(bytes));
  EXPECT_EQ(received[1], static_cast<std::int64_t>(bytes));
  const CutThroughState state = await(id, [](const CutThroughState& s) { return s.closed; });
  EXPECT_EQ(state.bytes_up, bytes);
  EXPECT_EQ(state.bytes_down, bytes);
  EXPECT_EQ(counter("failed"), 0U);
  EXPECT_EQ(counter("no way"), 0U);
  RecordProperty("gbit_per_second", std::to_string(static_cast<double>(bytes) * 16e-9 / took.count()));
}

TEST_P(RealFlow, carries_much_both_ways_at_once_across_the_flip) {
  expect_full_duplex(connect(GetParam()));
}

TEST_P(RealFlow, carries_much_without_offloads) {
  for (const auto& [where, link] : {std::pair(&net_->client, "eth0"), std::pair(&net_->server, "eth0"),
                                    std::pair(&net_->router, "lan"), std::pair(&net_->router, "wan")})
    where->run([name = link] { turn_offloads_off(name); });
  expect_full_duplex(connect(GetParam()));
}

TEST_P(RealFlow, carries_much_through_loss) {
  LIMPID_NEEDS_NFT(net_->client, "numgen random mod 200 0 drop");
  for (const Namespace* end : {&net_->client, &net_->server})
    end->nft(
        "table inet loss {\n chain input {\n  type filter hook input priority 0;\n  tcp dport != 1 numgen random mod "
        "200 0 drop\n }\n}\n");
  expect_full_duplex(connect(GetParam()));
}

TEST_P(RealFlow, a_reset_passes_and_ends_it) {
  Relayed flow = connect(GetParam());
  const CutThroughId id = cut(flow);
  expect_conversation(flow.client, flow.server);
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(flow.client.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  flow.client.reset();
  EXPECT_EQ(receive_text(flow.server), "error " + std::to_string(ECONNRESET));
  EXPECT_TRUE(await(id, [](const CutThroughState& s) { return s.client_reset; }).client_reset);
}

TEST_P(RealFlow, is_reset_on_both_sides_from_here) {
  Relayed flow = connect(GetParam());
  const CutThroughId id = cut(flow);
  expect_conversation(flow.client, flow.server);
  net_->router.run([&] { must(cut_->end(id), "end"); });
  EXPECT_EQ(receive_text(flow.server), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(receive_text(flow.client), "error " + std::to_string(ECONNRESET));
  const auto records = collect();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].end, CutThroughEnd::stopped);
}

TEST_P(RealFlow, outlives_whoever_began_it_and_is_adopted) {
  Relayed flow = connect(GetParam());
  const CutThroughId id = cut(flow);
  cut_.reset();  // as if killed: nothing is closed in the kernel
  expect_conversation(flow.client, flow.server);
  open();
  EXPECT_EQ(cut_->flows(), 1U);
  expect_conversation(flow.client, flow.server);
  EXPECT_EQ(must(cut_->look(id), "look").bytes_up, 10U);
  Relayed another = connect(GetParam());
  EXPECT_GT(cut(another), id);
  expect_conversation(another.client, another.server);
  expect_conversation(flow.client, flow.server);
}

TEST_P(RealFlow, one_that_was_draining_when_its_process_died_is_reset) {
  Relayed flow = connect(GetParam());
  begin(flow);
  cut_.reset();
  flow.close_legs();  // a killed process would close them with a word, which is not what this is about
  open();
  EXPECT_EQ(receive_text(flow.server), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(receive_text(flow.client), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(collect().size(), 1U);
}

TEST_P(RealFlow, idle_ones_are_reset) {
  options_.idle_timeout = 0s;
  cut_.reset();
  open();
  Relayed flow = connect(GetParam());
  cut(flow);
  std::vector<CutThroughRecord> records;
  net_->router.run([&] { records = collect(); });
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].end, CutThroughEnd::idle_timeout);
  EXPECT_EQ(receive_text(flow.server), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(receive_text(flow.client), "error " + std::to_string(ECONNRESET));
}

TEST_P(RealFlow, nothing_is_left_when_it_closes) {
  Relayed flow = connect(GetParam());
  cut(flow);
  std::vector<CutThroughRecord> records;
  net_->router.run([&] { must(cut_->close([&](const CutThroughRecord& r) { records.push_back(r); }), "close"); });
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].end, CutThroughEnd::stopped);
  EXPECT_EQ(receive_text(flow.server), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(receive_text(flow.client), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(net_->router.run([] { return must(find_cut_through(), "look"); }), std::vector<std::string>());
  EXPECT_EQ(net_->router.command("iproute2", {"tc", "qdisc", "show"}), before_);
}

TEST_P(RealFlow, refuses_a_tuple_that_is_taken_and_ends_that_are_here) {
  Relayed flow = connect(GetParam());
  const CutThroughFlow facts = flow.facts();
  cut(flow);
  net_->router.run([&] {
    const auto again = cut_->begin(facts);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EEXIST);
    CutThroughFlow here = facts;
    here.up.from = here.down.new_to = at(GetParam() == Family::ipv4 ? "192.0.2.1" : "2001:db8:1::1", 4000);
    const auto own = cut_->begin(here);
    ASSERT_FALSE(own);
    EXPECT_EQ(own.error().code, ENETUNREACH);
  });
  expect_conversation(flow.client, flow.server);
}

INSTANTIATE_TEST_SUITE_P(Families, RealFlow, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& of) { return of.param == Family::ipv4 ? "ipv4" : "ipv6"; });

}  // namespace
}  // namespace limpid::testbed
