// What changes around a flow while it is cut through: routes, interfaces, neighbours, MTU; and links that are no plain Ethernet.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <atomic>
#include <cstring>

#include "tests/unit/cutthrough/legs.h"

namespace limpid::testbed {
namespace {

class Changes : public CutThroughTest, public testing::WithParamInterface<Family> {
 protected:
  [[nodiscard]] bool ipv4() const { return GetParam() == Family::ipv4; }
  std::string ip(const Namespace& where, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"ip", ipv4() ? "-4" : "-6"});
    return where.command("iproute2", arguments);
  }
  std::vector<std::string> look_for_links() const {
    return net_->router.run([&] { return must(cut_->on_link_change(), "links"); });
  }
};

/// Packets between two devices without link headers: a wire.
class TunWire {
 public:
  TunWire(const Namespace& one, const Namespace& other, const std::string& name)
      : ends_{open(one, name), open(other, name)}, thread_([this] { pump(); }) {}
  ~TunWire() {
    ended_ = true;
    thread_.join();
  }
  TunWire(const TunWire&) = delete;
  TunWire& operator=(const TunWire&) = delete;

 private:
  static UniqueFd open(const Namespace& where, const std::string& name) {
    return where.run([&] {
      UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
      ifreq request{};
      name.copy(request.ifr_name, sizeof request.ifr_name - 1);
      request.ifr_flags = IFF_TUN | IFF_NO_PI;
      EXPECT_EQ(::ioctl(fd.get(), TUNSETIFF, &request), 0) << errno;
      return fd;
    });
  }
  void pump() const {
    std::array<char, 65536> packet{};
    while (!ended_) {
      std::array<pollfd, 2> waiting{{{ends_[0].get(), POLLIN, 0}, {ends_[1].get(), POLLIN, 0}}};
      ::poll(waiting.data(), waiting.size(), 20);
      for (const std::size_t from : {0U, 1U}) {
        for (;;) {
          const ssize_t length = ::read(ends_[from].get(), packet.data(), packet.size());
          if (length <= 0) break;
          [[maybe_unused]] const ssize_t written =
              ::write(ends_[1 - from].get(), packet.data(), static_cast<std::size_t>(length));
        }
      }
    }
  }
  std::array<UniqueFd, 2> ends_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

TEST_P(Changes, follows_a_route_to_an_interface_that_is_new) {
  Relayed flow = connect(GetParam());
  cut(flow);
  expect_conversation(flow.client, flow.server);
  net_->router.run(
      [&] { must(must(RouteSocket::open(), "netlink").add_veth("wan2", "eth1", net_->server.descriptor()), "veth"); });
  const std::string net = ipv4() ? "203.0.113." : "2001:db8:3::";
  const std::string length = ipv4() ? "/24" : "/64";
  ip(net_->router, {"address", "add", net + "1" + length, "dev", "wan2"});
  ip(net_->server, {"address", "add", net + "2" + length, "dev", "eth1"});
  net_->router.command("iproute2", {"ip", "link", "set", "wan2", "up"});
  net_->server.command("iproute2", {"ip", "link", "set", "eth1", "up"});
  EXPECT_EQ(look_for_links(), std::vector<std::string>{"wan2"});
  ip(net_->router, {"route", "add", std::string(server_address(GetParam())), "via", net + "2"});
  ip(net_->server, {"route", "replace", "default", "via", net + "1"});
  net_->router.command("iproute2", {"ip", "link", "del", "wan"});
  if (!ipv4()) ip(net_->server, {"address", "add", std::string(server_address(GetParam())) + "/128", "dev", "lo"});
  if (ipv4()) ip(net_->server, {"address", "add", std::string(server_address(GetParam())) + "/32", "dev", "lo"});
  EXPECT_EQ(look_for_links(), std::vector<std::string>());
  expect_conversation(flow.client, flow.server);
}

TEST_P(Changes, finds_a_neighbour_with_another_hardware_address) {
  const std::string kind = ipv4() ? "net.ipv4.neigh.wan." : "net.ipv6.neigh.wan.";
  net_->router.set_sysctl(kind + "delay_first_probe_time", "0");
  net_->router.set_sysctl(kind + "retrans_time_ms", "20");
  Relayed flow = connect(GetParam());
  cut(flow);
  expect_conversation(flow.client, flow.server);
  net_->server.command("iproute2", {"ip", "link", "set", "eth0", "address", "02:00:00:00:77:77"});
  // As it would be half a minute later.
  ip(net_->router, {"neigh", "change", std::string(server_address(GetParam())), "dev", "wan", "nud", "stale"});
  send_text(flow.client, "anybody there?");
  EXPECT_EQ(receive_text(flow.server, Milliseconds(20000)), "anybody there?");
}

TEST_P(Changes, policy_routing_sees_the_mark_of_packets_to_the_target) {
  utsname kernel{};
  ::uname(&kernel);
  if (::strverscmp(kernel.release, "6.10") < 0) GTEST_SKIP() << "needs Linux 6.10";
  Relayed flow = connect(GetParam());
  cut(flow);
  ip(net_->router, {"route", "add", "unreachable", "default", "table", "200"});
  ip(net_->router, {"rule", "add", "priority", "9", "fwmark", "2", "lookup", "200"});
  send_text(flow.client, "up");
  EXPECT_EQ(receive_text(flow.server, kSilence), "silence");
  EXPECT_GT(counter("no way"), 0U);
  send_text(flow.server, "down");
  EXPECT_EQ(receive_text(flow.client), "down");
  ip(net_->router, {"rule", "del", "priority", "9"});
  EXPECT_EQ(receive_text(flow.server), "up");
}

TEST_P(Changes, somebody_else_removes_what_a_killed_process_left) {
  Relayed flow = connect(GetParam());
  cut(flow);
  expect_conversation(flow.client, flow.server);
  cut_.reset();
  net_->router.run([] {
    EXPECT_EQ(must(find_cut_through(), "look"), std::vector<std::string>{"test"});
    EXPECT_FALSE(must(remove_cut_through("another"), "remove"));
    EXPECT_TRUE(must(remove_cut_through("test"), "remove"));
    EXPECT_EQ(must(find_cut_through(), "look"), std::vector<std::string>());
  });
  EXPECT_EQ(receive_text(flow.server), "error " + std::to_string(ECONNRESET));
  EXPECT_EQ(receive_text(flow.client), "error " + std::to_string(ECONNRESET));
}

TEST_P(Changes, tells_the_sender_of_a_smaller_mtu) {
  Relayed flow = connect(GetParam());
  cut(flow);
  ip(net_->router, {"route", "add", std::string(server_address(GetParam())), "dev", "wan", "mtu", "lock", "1300"});
  const std::string much(60'000, 'x');
  send_text(flow.client, much);
  std::size_t received = 0;
  while (received < much.size()) {
    const std::string piece = receive_text(flow.server);
    ASSERT_NE(piece, "silence") << "after " << received;
    received += piece.size();
  }
  EXPECT_GT(counter("too big"), 0U);
  EXPECT_EQ(counter("failed"), 0U);
}

TEST_P(Changes, crosses_links_without_headers) {
  if (::access("/dev/net/tun", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/net/tun";
  const TunWire wire(net_->client, net_->router, "point0");
  const std::string net = ipv4() ? "203.0.113." : "2001:db8:3::";
  const std::string length = ipv4() ? "/24" : "/64";
  ip(net_->client, {"address", "add", net + "2" + length, "dev", "point0"});
  ip(net_->router, {"address", "add", net + "1" + length, "dev", "point0"});
  net_->client.command("iproute2", {"ip", "link", "set", "point0", "up"});
  net_->router.command("iproute2", {"ip", "link", "set", "point0", "up"});
  // The client keeps its address, and is behind the wire now.
  ip(net_->client, {"route", "replace", "default", "dev", "point0"});
  ip(net_->router, {"route", "add", std::string(client_address(GetParam())), "dev", "point0"});
  EXPECT_EQ(look_for_links(), std::vector<std::string>{"point0"});
  Relayed flow = connect(GetParam());
  cut(flow);
  expect_conversation(flow.client, flow.server);
  const std::string much(60'000, 'y');
  send_text(flow.server, much);
  for (std::size_t received = 0; received < much.size();) {
    const std::string piece = receive_text(flow.client);
    ASSERT_NE(piece, "silence") << "after " << received;
    received += piece.size();
  }
  EXPECT_EQ(counter("failed"), 0U);
}

TEST_P(Changes, works_on_a_bridge_and_leaves_its_ports) {
  net_->router.command("iproute2", {"ip", "link", "add", "br0", "type", "bridge"});
  // With br_netfilter TPROXY fails on bridges (docs/ebpf.md), and there would be nothing to cut through.
  net_->router.run([] {
    for (const std::string_view key : {"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"}) {
      if (read_sysctl(key)) must(write_sysctl(key, "0"), key);
    }
  });
  ip(net_->router, {"address", "flush", "dev", "lan"});
  net_->router.command("iproute2", {"ip", "link", "set", "lan", "master", "br0"});
  const std::string own = ipv4() ? "192.0.2.1/24" : "2001:db8:1::1/64";
  net_->router.command("iproute2", {"ip", "link", "set", "br0", "up"});
  ip(net_->router, ipv4() ? std::vector<std::string>{"address", "add", own, "dev", "br0"}
                          : std::vector<std::string>{"address", "add", own, "dev", "br0", "nodad"});
  for (const std::string family : {"-4", "-6"})
    net_->client.command("iproute2", {"ip", family, "neigh", "flush", "dev", "eth0"});
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {  // the bridge begins to forward
    const auto refused = connect_plain(net_->client, at(server_address(GetParam()), 1), Milliseconds(20));
    if (!refused && refused.error().code == ECONNREFUSED) break;
  }
  EXPECT_EQ(look_for_links(), std::vector<std::string>{"br0"});
  Relayed flow = connect(GetParam());
  cut(flow);
  expect_conversation(flow.client, flow.server);
  EXPECT_GT(counter("forwarded"), 0U);
}

INSTANTIATE_TEST_SUITE_P(Families, Changes, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& of) { return of.param == Family::ipv4 ? "ipv4" : "ipv6"; });

}  // namespace
}  // namespace limpid::testbed
