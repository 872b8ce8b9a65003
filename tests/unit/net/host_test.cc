// The small windows on the host: namespaces, sysctls, interface names, who holds a port.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "fresh_namespace.h"
#include "net/interface_name.h"
#include "net/port_owner.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

TEST(InterfaceName, usual_names_are_accepted) {
  for (const std::string name : {"eth0", "lo", "br-lan", "wlan0.100", "veth@if3", "a", "exactly15chars_", "eth0:1"}) {
    EXPECT_EQ(validate_interface_name(name).value_or(""), name);
  }
}

TEST(InterfaceName, whatever_could_be_syntax_is_refused) {
  for (const std::string name : {"", ".", "..", "-d", "sixteen_letters_", "eth*", "eth0;", "eth0\"", "a b", "a/b",
                                 "eth0\n", "{", "}", "ä", "eth%d", "$x", "\x1b[2J"}) {
    const auto outcome = validate_interface_name(name);
    ASSERT_FALSE(outcome) << name;
    EXPECT_EQ(outcome.error().kind, ErrorKind::usage);
    EXPECT_EQ(outcome.error().message().find('\x1b'), std::string::npos);
    EXPECT_EQ(outcome.error().message().find('\n'), std::string::npos);
  }
}

class Namespaces : public FreshNamespace {};

TEST_F(Namespaces, each_has_its_own_sysctls) {
  const auto first = current_network_namespace().value();
  ASSERT_TRUE(write_sysctl("net.ipv4.ip_forward", "1"));
  ASSERT_TRUE(enter_new_network_namespace());
  ASSERT_TRUE(write_sysctl("net.ipv4.ip_forward", "0"));
  EXPECT_EQ(read_sysctl("net.ipv4.ip_forward").value(), "0");
  ASSERT_TRUE(enter_network_namespace(first.get()));
  EXPECT_EQ(read_sysctl("net.ipv4.ip_forward").value(), "1");
}

TEST_F(Namespaces, a_slash_in_a_key_is_a_dot_in_an_interface_name) {
  const auto here = current_network_namespace().value();
  ASSERT_TRUE(socket().add_veth("lan.7", "far", here.get()));
  EXPECT_TRUE(read_sysctl("net.ipv4.conf.lan/7.rp_filter"));
}

TEST_F(Namespaces, unknown_and_refused_sysctls_are_errors_with_their_names) {
  const auto unknown = read_sysctl("net.ipv4.no_such_thing");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ENOENT);
  EXPECT_NE(unknown.error().message().find("net.ipv4.no_such_thing"), std::string::npos);
  EXPECT_FALSE(write_sysctl("net.ipv4.ip_forward", "perhaps"));
}

TEST_F(Namespaces, a_thread_may_live_in_another_one) {
  const auto inode = [](const UniqueFd& descriptor) {
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor.get())).string();
  };
  const auto here = inode(current_network_namespace().value());
  std::string there;
  std::jthread([&] {
    if (enter_new_network_namespace()) there = inode(current_network_namespace().value());
  }).join();
  EXPECT_NE(there, "");
  EXPECT_NE(there, here);
  EXPECT_EQ(inode(current_network_namespace().value()), here);
}

TEST_F(Namespaces, a_user_namespace_makes_root_of_anybody) {
  // In a child: a process cannot leave a user namespace.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto rooted = become_root_in_user_namespace();
    if (!rooted) ::_exit(rooted.error().kind == ErrorKind::unsupported ? 77 : 1);
    ::_exit(::geteuid() == 0 && has_capability(CAP_NET_ADMIN) && enter_new_network_namespace() ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "user namespaces are not permitted here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

class PortOwner : public FreshNamespace {};

TEST_F(PortOwner, names_the_process_that_listens) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const UniqueFd listener(::socket(family == Family::ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    sockaddr_storage native{};
    socklen_t length = sizeof native;
    ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&native), &length), 0);
    const auto port = SocketAddress::from_native(native).value().port;
    EXPECT_NE(find_port_owner(port).find("(pid " + std::to_string(::getpid()) + ")"), std::string::npos);
  }
  EXPECT_EQ(find_port_owner({1}), "");
}

/// A UDP socket on `address`, whose port is filled in.
UniqueFd bound_udp(SocketAddress& address) {
  UniqueFd fd(::socket(address.family() == Family::ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage native{};
  socklen_t length = address.to_native(native);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length), 0);
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&native), &length), 0);
  address = SocketAddress::from_native(native).value();
  return fd;
}

TEST_F(PortOwner, names_the_process_with_a_udp_socket_which_is_not_one_of_tcp) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    SocketAddress address{.address = IpAddress::loopback(family), .port = {}};
    const auto socket = bound_udp(address);
    EXPECT_NE(find_udp_port_owner(address.port).find("(pid " + std::to_string(::getpid()) + ")"), std::string::npos);
    EXPECT_EQ(find_port_owner(address.port), "");
  }
  EXPECT_EQ(find_udp_port_owner({1}), "");
}

TEST_F(PortOwner, lists_wildcard_udp_servers_of_the_given_ports_only) {
  std::vector<UniqueFd> sockets;
  PortSet ports;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    SocketAddress one{.address = IpAddress::any(family), .port = {}};
    SocketAddress of_loopback{.address = IpAddress::loopback(family), .port = {}};
    SocketAddress connected = one;
    sockets.push_back(bound_udp(one));
    sockets.push_back(bound_udp(of_loopback));
    sockets.push_back(bound_udp(connected));
    sockaddr_storage native{};
    const auto length = of_loopback.to_native(native);
    ASSERT_EQ(::connect(sockets.back().get(), reinterpret_cast<const sockaddr*>(&native), length), 0);
    ports = {};
    for (const auto& address : {one, of_loopback, connected}) ports.insert({address.port, address.port});
    const auto found = find_wildcard_udp_servers(ports, 5);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].port, one.port);
    EXPECT_NE(found[0].process.find("(pid " + std::to_string(::getpid()) + ")"), std::string::npos);
  }
  PortSet all;
  all.insert({{1}, {65535}});
  EXPECT_EQ(find_wildcard_udp_servers(all, 5).size(), 2U);
  EXPECT_EQ(find_wildcard_udp_servers(all, 1).size(), 1U);
  EXPECT_EQ(find_wildcard_udp_servers({}, 5).size(), 0U);
}

}  // namespace
}  // namespace limpid
