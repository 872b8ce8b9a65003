// The library's UDP: original destinations, answers in the name of whoever was dialled, foreign sockets. With a client, a
// router and a server in namespaces, because only a kernel knows what it delivers to whom.
#include "limpid/datagram.h"

#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/syscall.h>

#include <algorithm>
#include <set>
#include <string>

#include "tests/kernel/interception_rules.h"

namespace limpid {
namespace {

using testbed::at;
using testbed::client_address;
using testbed::kPatience;
using testbed::must;
using testbed::Namespace;
using testbed::Network;
using testbed::server_address;
using testbed::wait_for;

constexpr std::uint16_t kDialled = 53;
const std::string kTproxyDatagrams =
    "meta nfproto ipv4 udp dport 53 tproxy ip to 127.0.0.1:1080 meta mark set 1 accept\n"
    "meta nfproto ipv6 udp dport 53 tproxy ip6 to [::1]:1080 meta mark set 1 accept\n";
const std::string kDivertDatagrams = "meta l4proto udp socket transparent 1 meta mark set 1 accept\n";

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Datagrams : public testbed::NamespaceTest, public ::testing::WithParamInterface<Family> {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped()) return;
    build();
    LIMPID_NEEDS_NFT(router(), "meta nfproto ipv4 meta l4proto udp tproxy ip to 127.0.0.1:1");
  }

  virtual void build() { network_.emplace(); }

  virtual const Namespace& router() const { return network_->router; }
  Family family() const { return GetParam(); }
  SocketAddress nobody(int number = 9) const {
    return at((family() == Family::ipv4 ? "203.0.113." : "2001:db8:9::") + std::to_string(number), kDialled);
  }
  SocketAddress foreign(std::uint16_t port) const {
    return at(family() == Family::ipv4 ? "222.173.190.239" : "2001:db8:dead::beef", port);
  }
  SocketAddress server(std::uint16_t port) const { return at(server_address(family()), port); }

  /// An ordinary UDP socket on any address.
  UniqueFd plain(const Namespace& where, std::uint16_t port = 0) const {
    return where.run([&] {
      UniqueFd fd(::socket(family() == Family::ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      sockaddr_storage native{};
      const auto length = SocketAddress{.address = IpAddress::any(family()), .port = Port{port}}.to_native(native);
      EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length), 0) << errno;
      return fd;
    });
  }
  UniqueFd foreign_socket(const DatagramSocketOptions& options) const {
    return router().run([&] { return must(open_datagram_socket(options), "a foreign socket"); });
  }
  /// Behind rules that hand it what goes to port 53.
  UniqueFd listen(const std::string& rules) const {
    testbed::route_marked_packets(router());
    testbed::add_prerouting(router(), rules);
    return router().run([&] {
      return must(listen_datagrams({.address = IpAddress::loopback(family()), .port = Port{testbed::kListener}}),
                  "listen");
    });
  }
  static void send(const UniqueFd& fd, const SocketAddress& to, std::string_view text) {
    sockaddr_storage native{};
    const auto length = to.to_native(native);
    EXPECT_EQ(::sendto(fd.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&native), length),
              static_cast<ssize_t>(text.size()))
        << errno;
  }
  /// The next `count` datagrams, each as "payload from peer".
  static std::vector<std::string> receive(const UniqueFd& fd, std::size_t count) {
    DatagramBatch batch;
    std::vector<std::string> received;
    while (received.size() < count && wait_for(fd.get(), POLLIN, kPatience)) {
      for (const auto& datagram : batch.receive(fd.get())) {
        received.push_back(text_of(datagram.payload) + " from " + datagram.peer.to_string());
      }
    }
    return received;
  }

  std::optional<Network> network_;
};

/// Where nothing is sent: without the network, which takes long to take down.
class DatagramSockets : public Datagrams {
 protected:
  void build() override {}
  const Namespace& router() const override { return alone_; }

 private:
  Namespace alone_;
};

TEST_P(Datagrams, tell_the_original_destination_ttl_and_tos) {
  const UniqueFd listener = listen(kTproxyDatagrams);
  const UniqueFd client = plain(network_->client);
  const int ttl = 33;
  const int tos = 0x48;
  const bool ipv4 = family() == Family::ipv4;
  ASSERT_EQ(::setsockopt(client.get(), ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_TTL : IPV6_UNICAST_HOPS, &ttl, sizeof ttl),
            0);
  ASSERT_EQ(::setsockopt(client.get(), ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof tos), 0);
  constexpr int kCount = 5;
  for (int i = 1; i <= kCount; ++i) send(client, nobody(i), std::string(static_cast<std::size_t>(i - 1), 'x'));
  const auto peer = original_destination(client.get()).value();  // its own port

  DatagramBatch batch;
  int seen = 0;
  while (seen < kCount && wait_for(listener.get(), POLLIN, kPatience)) {
    const auto datagrams = batch.receive(listener.get(), 2);
    EXPECT_LE(datagrams.size(), 2U) << "as small as asked for";
    for (const auto& datagram : datagrams) {
      ++seen;
      EXPECT_EQ(datagram.original_destination, nobody(seen));
      EXPECT_EQ(datagram.peer, at(client_address(family()), peer.port.value));
      EXPECT_EQ(datagram.payload.size(), static_cast<std::size_t>(seen - 1));
      EXPECT_EQ(datagram.fields, (HopFields{.ttl = 33, .traffic_class = 0x48}));
    }
  }
  EXPECT_EQ(seen, kCount);
  EXPECT_TRUE(batch.receive(listener.get()).empty()) << "and then it does not wait";
}

TEST_P(Datagrams, answers_leave_in_the_name_of_whoever_was_dialled) {
  // A resolver of the router's own holds the port on any address, and is in nobody's way.
  const UniqueFd resolver = plain(router(), kDialled);
  const UniqueFd listener = listen(kTproxyDatagrams + kDivertDatagrams);
  const UniqueFd one = plain(network_->client);
  const UniqueFd other = plain(network_->client);
  auto sender = router().run([&] { return must(RawSender::open(family()), "raw sender"); });
  DatagramBatch batch;
  for (int turn = 0; turn < 3; ++turn) {
    for (const UniqueFd* client : {&one, &other}) {
      const std::string question = "question " + std::to_string(turn) + (client == &one ? " of one" : " of the other");
      send(*client, nobody(), question);
      ASSERT_TRUE(wait_for(listener.get(), POLLIN, kPatience));
      std::vector<SpoofedDatagram> answers;
      for (const auto& datagram : batch.receive(listener.get())) {
        answers.push_back({.from = *datagram.original_destination, .to = datagram.peer, .payload = datagram.payload});
      }
      ASSERT_EQ(sender.send(answers), 1U);
      EXPECT_EQ(receive(*client, 1), std::vector<std::string>{question + " from " + nobody().to_string()});
    }
  }
}

TEST_P(Datagrams, the_largest_answer_arrives_in_fragments) {
  const UniqueFd client = plain(network_->client);
  const auto here = at(client_address(family()), original_destination(client.get()).value().port.value);
  auto sender = router().run([&] { return must(RawSender::open(family()), "raw sender"); });
  const std::string largest(family() == Family::ipv4 ? 65507 : 65527, 'x');
  const SpoofedDatagram datagram{.from = nobody(), .to = here, .payload = bytes_of(largest)};
  ASSERT_EQ(sender.send({&datagram, 1}), 1U) << errno;
  EXPECT_EQ(receive(client, 1), std::vector<std::string>{largest + " from " + nobody().to_string()});
}

TEST_P(Datagrams, what_no_header_can_describe_is_refused_and_the_rest_is_sent) {
  const UniqueFd client = plain(network_->client);
  const auto here = at(client_address(family()), original_destination(client.get()).value().port.value);
  auto sender = router().run([&] { return must(RawSender::open(family()), "raw sender"); });
  const SpoofedDatagram good{.from = nobody(), .to = here, .payload = bytes_of("good")};
  const std::string too_much(65528, 'x');
  auto large = good;
  large.payload = bytes_of(too_much);
  auto foreign_family = good;
  foreign_family.from = at(family() == Family::ipv4 ? "2001:db8::1" : "192.0.2.9", 53);
  for (const auto& [bad, code] : {std::pair{large, EMSGSIZE}, std::pair{foreign_family, EAFNOSUPPORT}}) {
    errno = 0;
    EXPECT_EQ(sender.send(std::vector{good, bad, good}), 1U);
    EXPECT_EQ(errno, code);
  }
  EXPECT_EQ(receive(client, 2).size(), 2U);
}

TEST_P(Datagrams, a_foreign_socket_speaks_and_hears_what_is_diverted) {
  testbed::route_marked_packets(router());
  testbed::add_prerouting(router(), kDivertDatagrams);
  const UniqueFd server_socket = plain(network_->server, 7000);
  const UniqueFd caller = foreign_socket({.source = foreign(0xCAFE)});
  EXPECT_EQ(original_destination(caller.get()).value(), foreign(0xCAFE));
  const std::vector<std::span<const std::byte>> payloads{bytes_of("one"), bytes_of("two"), bytes_of("three")};
  ASSERT_EQ(send_datagrams(caller.get(), server(7000), {.ttl = 9, .traffic_class = 0}, payloads), 3U);
  const auto from = " from " + foreign(0xCAFE).to_string();
  EXPECT_EQ(receive(server_socket, 3), (std::vector{"one" + from, "two" + from, "three" + from}));
  send(server_socket, foreign(0xCAFE), "answer");
  EXPECT_EQ(receive(caller, 1), std::vector{"answer from " + server(7000).to_string()});
}

TEST_P(DatagramSockets, ports_that_the_kernel_chooses_are_different) {
  // One client's sessions, each of which must hear its own answers.
  constexpr std::size_t kSockets = 500;
  std::vector<UniqueFd> sockets;
  std::set<std::uint16_t> ports;
  for (std::size_t i = 0; i < kSockets; ++i) {
    sockets.push_back(foreign_socket({.source = foreign(0)}));
    ports.insert(original_destination(sockets.back().get()).value().port.value);
  }
  EXPECT_EQ(ports.size(), kSockets);
}

// Why a proxy answers through a RawSender, and not through a socket that is bound to the dialled address.

TEST_P(DatagramSockets, a_foreign_socket_collides_with_a_server_on_any_address) {
  const UniqueFd resolver = plain(router(), kDialled);
  const auto refused = router().run([&] { return open_datagram_socket({.source = nobody()}); });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EADDRINUSE);
  EXPECT_NE(refused.error().message().find(nobody().to_string()), std::string::npos);
}

TEST_P(Datagrams, an_unconnected_foreign_socket_takes_every_clients_datagrams) {
  const UniqueFd listener = listen(kDivertDatagrams + kTproxyDatagrams);
  const UniqueFd answering = foreign_socket({.source = nobody()});
  const UniqueFd stranger = plain(network_->client);
  send(stranger, nobody(), "to the listener?");
  EXPECT_EQ(receive(answering, 1).size(), 1U);
  EXPECT_FALSE(wait_for(listener.get(), POLLIN, testbed::Milliseconds(0)));
}

TEST_P(Datagrams, a_connected_foreign_socket_takes_its_clients_datagrams_only) {
  const UniqueFd listener = listen(kDivertDatagrams + kTproxyDatagrams);
  const UniqueFd client = plain(network_->client);
  const UniqueFd stranger = plain(network_->client);
  const auto here = at(client_address(family()), original_destination(client.get()).value().port.value);
  const UniqueFd answering = foreign_socket({.source = nobody(), .peer = here});
  send(client, nobody(), "of the client");
  EXPECT_EQ(receive(answering, 1), std::vector{"of the client from " + here.to_string()});
  send(stranger, nobody(), "of a stranger");
  EXPECT_EQ(receive(listener, 1).size(), 1U);
}

TEST_P(DatagramSockets, need_privileges_and_say_so) {
  router().run([&] {
    // Of this thread only, which ends with this function.
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, 2> none{};
    ASSERT_EQ(::syscall(SYS_capset, &header, none.data()), 0);
    const auto listener = listen_datagrams({.address = IpAddress::loopback(family()), .port = {}});
    const auto socket = open_datagram_socket({.source = foreign(0)});
    const auto sender = RawSender::open(family());
    ASSERT_FALSE(listener || socket || sender);
    for (const Error& error : {listener.error(), socket.error(), sender.error()}) {
      EXPECT_EQ(error.kind, ErrorKind::unsupported);
      EXPECT_NE(error.remedy, "") << error.message();
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Families, Datagrams, ::testing::Values(Family::ipv4, Family::ipv6));
INSTANTIATE_TEST_SUITE_P(Families, DatagramSockets, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid
