// Assumption: with IP_BIND_ADDRESS_NO_PORT the port is chosen at connect, where only the 4-tuple must be unique: one
// source address with one single ephemeral port reaches two targets at a time. Without it, bind takes the port for
// every target.
#include <netinet/in.h>

#include "tests/kernel/testbed.h"

namespace limpid::testbed {
namespace {

class BindAddressNoPort : public NamespaceTest, public ::testing::WithParamInterface<Family> {};

UniqueFd bound_socket(Family family, bool defer_port) {
  UniqueFd fd(::socket(family == Family::ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = defer_port ? 1 : 0;
  ::setsockopt(fd.get(), SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  sockaddr_storage native{};
  const auto length = at(client_address(family), 0).to_native(native);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0) return {};
  return fd;
}

Result<UniqueFd> connected(UniqueFd fd, const SocketAddress& target) {
  sockaddr_storage native{};
  const auto length = target.to_native(native);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0 && errno != EINPROGRESS) {
    return system_error(errno, "connect", "");
  }
  return established(std::move(fd), kPatience);
}

TEST_P(BindAddressNoPort, allows_the_same_port_for_two_targets) {
  const Network network;
  network.client.set_sysctl("net.ipv4.ip_local_port_range", "40000 40000");
  const UniqueFd one = listen_plain(network.server, GetParam(), 80);
  const UniqueFd other = listen_plain(network.server, GetParam(), 81);
  network.client.run([&] {
    const auto first = connected(bound_socket(GetParam(), true), at(server_address(GetParam()), 80));
    ASSERT_TRUE(first) << why(first.error());
    const auto second = connected(bound_socket(GetParam(), true), at(server_address(GetParam()), 81));
    ASSERT_TRUE(second) << why(second.error());
    EXPECT_EQ(original_destination(first->get())->port, original_destination(second->get())->port);
    const auto third = connected(bound_socket(GetParam(), true), at(server_address(GetParam()), 80));
    ASSERT_FALSE(third) << "the 4-tuple is taken";
    EXPECT_EQ(third.error().code, EADDRNOTAVAIL);
  });
}

TEST_P(BindAddressNoPort, without_it_bind_takes_the_port_for_every_target) {
  const Network network;
  network.client.set_sysctl("net.ipv4.ip_local_port_range", "40000 40000");
  network.client.run([&] {
    const UniqueFd first = bound_socket(GetParam(), false);
    ASSERT_TRUE(first.valid());
    EXPECT_FALSE(bound_socket(GetParam(), false).valid());
  });
}

INSTANTIATE_TEST_SUITE_P(Families, BindAddressNoPort, ::testing::Values(Family::ipv4, Family::ipv6));

}  // namespace
}  // namespace limpid::testbed
