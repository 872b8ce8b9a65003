// The lab against the real kernel: its addresses, its forwarding, and that it disturbs nobody.
#include "lab/lab.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <filesystem>
#include <optional>
#include <string>

#include "lab/environment.h"
#include "net/namespace.h"
#include "net/netlink.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

std::string identity(const UniqueFd& network_namespace) {
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(network_namespace.get())).string();
}

int native(Family family) {
  return family == Family::ipv4 ? AF_INET : AF_INET6;
}

class LabNetwork : public ::testing::Test {
 protected:
  void build(unsigned servers) {
    auto made = Lab::create({.servers = servers});
    if (!made && made.error().kind == ErrorKind::unsupported) GTEST_SKIP() << made.error().message();
    ASSERT_TRUE(made) << made.error().message();
    lab_.emplace(*std::move(made));
    home_ = current_network_namespace().value();
  }
  void TearDown() override {
    if (home_.valid()) {
      EXPECT_TRUE(enter_network_namespace(home_.get()));
    }
  }
  void visit(std::string_view name) {
    ASSERT_NE(lab_->find(name), nullptr) << name;
    ASSERT_TRUE(enter_network_namespace(lab_->find(name)->network_namespace.get()));
  }
  // Connects from the client to a listener on `server` and says whom the server saw; no waiting before the first
  // packet.
  IpAddress peer_seen_by(std::string_view server, Family family) {
    visit(server);
    const LabHost& host = *lab_->find(server);
    sockaddr_storage address{};
    const SocketAddress local{.address = family == Family::ipv4 ? host.ipv4 : host.ipv6, .port = {80}};
    const auto length = local.to_native(address);
    const auto* generic = reinterpret_cast<const sockaddr*>(&address);
    const UniqueFd listener(::socket(native(family), SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(listener.get(), generic, length), 0) << local.to_string();
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    visit("client");
    const UniqueFd client(::socket(native(family), SOCK_STREAM | SOCK_CLOEXEC, 0));
    // A SYN that gets lost is sent again after a second: an answer within this time is the answer to the first one.
    const timeval patience{.tv_sec = 0, .tv_usec = 900'000};
    ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    EXPECT_EQ(::connect(client.get(), generic, length), 0) << local.to_string();
    sockaddr_storage peer{};
    socklen_t peer_length = sizeof peer;
    const UniqueFd accepted(::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &peer_length, SOCK_CLOEXEC));
    EXPECT_TRUE(accepted.valid());
    return SocketAddress::from_native(peer).value_or(SocketAddress{}).address;
  }

  const Lab& lab() { return *lab_; }

 private:
  std::optional<Lab> lab_;
  UniqueFd home_;
};

TEST_F(LabNetwork, the_caller_is_back_where_it_was) {
  build(1);
  const std::string here = identity(current_network_namespace().value());
  const auto second = Lab::create({});
  ASSERT_TRUE(second);
  EXPECT_EQ(identity(current_network_namespace().value()), here);
  for (const auto& host : second->hosts()) EXPECT_NE(identity(host.network_namespace), here);
}

TEST_F(LabNetwork, hosts_have_the_documented_names_and_addresses) {
  build(3);
  std::string all;
  for (const auto& host : lab().hosts()) {
    all += host.name + " " + host.ipv4.to_string() + " " + host.ipv6.to_string() + "\n";
  }
  EXPECT_EQ(all,
            "client 192.0.2.2 2001:db8:1::2\n"
            "router 192.0.2.1 2001:db8:1::1\n"
            "server 198.51.100.2 2001:db8:2::2\n"
            "server2 203.0.113.34 2001:db8:3::2\n"
            "server3 203.0.113.50 2001:db8:4::2\n");
  EXPECT_EQ(lab().find("server4"), nullptr);
}

TEST_F(LabNetwork, the_router_has_lan_and_a_wan_for_each_server) {
  build(2);
  visit("router");
  std::string names;
  const auto links = RouteSocket::open().value().links().value();
  for (const auto& link : links) names += link.name + (link.up ? " up, " : " down, ");
  EXPECT_EQ(names, "lo up, lan up, wan up, wan2 up, ");
}

TEST_F(LabNetwork, every_server_sees_the_client_at_its_first_packet) {
  build(8);
  for (const auto& host : lab().hosts()) {
    if (!host.name.starts_with("server")) continue;
    EXPECT_EQ(peer_seen_by(host.name, Family::ipv4).to_string(), "192.0.2.2") << host.name;
    EXPECT_EQ(peer_seen_by(host.name, Family::ipv6).to_string(), "2001:db8:1::2") << host.name;
  }
}

TEST_F(LabNetwork, settings_of_the_host_do_not_reach_in) {
  build(1);
  for (const auto& host : lab().hosts()) {
    visit(host.name);
    EXPECT_EQ(read_sysctl("net.ipv4.ip_forward").value(), host.name == "router" ? "1" : "0");
    EXPECT_EQ(read_sysctl("net.ipv6.conf.all.forwarding").value(), host.name == "router" ? "1" : "0");
    EXPECT_EQ(read_sysctl("net.ipv4.conf.all.rp_filter").value(), "0");
    EXPECT_EQ(
        read_sysctl("net.ipv4.conf." + std::string(host.name == "router" ? "lan" : "eth0") + ".rp_filter").value(),
        "0");
  }
}

TEST(LabOptionsCheck, the_number_of_servers_has_limits) {
  for (const unsigned servers : {0U, 9U}) {
    const auto refused = Lab::create({.servers = servers});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::usage);
  }
}

TEST(LabEnvironment, a_host_is_found_by_its_whole_name) {
  static constexpr auto kVariable =
      "client=/proc/2/ns/net,router=/proc/3/ns/net,server=/proc/4/ns/net,server2=/proc/5/ns/net";
  EXPECT_EQ(find_lab_host(kVariable, "client").value(), "/proc/2/ns/net");
  EXPECT_EQ(find_lab_host(kVariable, "server").value(), "/proc/4/ns/net");
  EXPECT_EQ(find_lab_host(kVariable, "server2").value(), "/proc/5/ns/net");
  const auto missing = find_lab_host(kVariable, "serve");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::usage);
  EXPECT_NE(missing.error().message().find("client, router, server, server2"), std::string::npos);
  EXPECT_FALSE(find_lab_host("", "client"));
  EXPECT_FALSE(find_lab_host("client", "client"));
}

}  // namespace
}  // namespace limpid
