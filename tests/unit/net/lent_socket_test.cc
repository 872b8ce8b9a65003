// Sockets and addresses of other programs: any length, any content.
#include "net/lent_socket.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

std::span<const std::byte> bytes_of(const sockaddr_storage& native, std::size_t length) {
  return std::as_bytes(std::span(&native, 1)).first(length);
}

TEST(LentAddress, every_length_is_read_or_refused_as_the_kernel_does) {
  sockaddr_storage native{};
  (void)SocketAddress::parse("192.0.2.1:80")->to_native(native);
  for (std::size_t length = 0; length <= sizeof native; ++length) {
    EXPECT_EQ(read_native_address(bytes_of(native, length)).has_value(), length >= sizeof(sockaddr_in)) << length;
  }
  (void)SocketAddress::parse("[2001:db8::1]:80")->to_native(native);
  for (std::size_t length = 0; length <= sizeof native; ++length) {
    EXPECT_EQ(read_native_address(bytes_of(native, length)).has_value(), length >= 24) << length;
  }
}

TEST(LentAddress, other_families_are_none) {
  for (const auto family : {AF_UNSPEC, AF_UNIX, AF_NETLINK, AF_PACKET, 65535}) {
    sockaddr_storage native{};
    native.ss_family = static_cast<sa_family_t>(family);
    EXPECT_FALSE(read_native_address(bytes_of(native, sizeof native))) << family;
  }
}

TEST(LentAddress, a_mapped_address_is_an_ipv4_one) {
  sockaddr_storage native{};
  (void)SocketAddress::parse("[::ffff:192.0.2.1]:80")->to_native(native);
  const auto address = read_native_address(bytes_of(native, sizeof(sockaddr_in6)));
  ASSERT_TRUE(address);
  EXPECT_EQ(address->to_string(), "192.0.2.1:80");
}

TEST(LentSocket, only_internet_sockets_are_ours) {
  const UniqueFd local(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(inspect_lent_socket(local.get()));
  EXPECT_FALSE(inspect_lent_socket(STDERR_FILENO));
  EXPECT_FALSE(inspect_lent_socket(-1));
  const UniqueFd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(inspect_lent_socket(tcp.get()));
  EXPECT_EQ(inspect_lent_socket(tcp.get())->kind, SocketKind::stream);
  EXPECT_TRUE(is_unbound(*inspect_lent_socket(tcp.get())));
  const UniqueFd udp(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(inspect_lent_socket(udp.get()));
  EXPECT_EQ(inspect_lent_socket(udp.get())->kind, SocketKind::datagram);
  EXPECT_EQ(inspect_lent_socket(udp.get())->family, Family::ipv6);
}

}  // namespace
}  // namespace limpid
