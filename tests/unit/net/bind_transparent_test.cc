// bind_transparent: the kernel document's fragment, bind to 0xDEADBEEF:0xCAFE, for sockets of every kind.
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "fresh_namespace.h"
#include "limpid/transparent.h"

namespace limpid {
namespace {

class BindTransparent : public FreshNamespace {
 protected:
  static UniqueFd open(Family family, int type) {
    return UniqueFd(::socket(family == Family::ipv4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
  }
  static IpAddress nobodys(Family family) {
    return IpAddress::parse(family == Family::ipv4 ? "222.173.190.239" : "2001:db8:dead::beef").value();
  }
  static constexpr Port kPort{0xCAFE};
};

TEST_F(BindTransparent, binds_sockets_of_every_kind_to_nobodys_address) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
      const SocketAddress local{.address = nobodys(family), .port = kPort};
      const UniqueFd fd = open(family, type);
      sockaddr_storage native{};
      const auto length = local.to_native(native);
      ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length), -1) << "it is nobody's";
      ASSERT_EQ(errno, EADDRNOTAVAIL);
      const auto bound = bind_transparent(fd.get(), local);
      ASSERT_TRUE(bound) << bound.error().message();
      EXPECT_EQ(original_destination(fd.get()).value(), local);
    }
  }
}

TEST_F(BindTransparent, leaves_a_port_of_zero_to_whoever_uses_the_socket_first) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const UniqueFd fd = open(family, SOCK_STREAM);
    ASSERT_TRUE(bind_transparent(fd.get(), {.address = nobodys(family), .port = {}}));
    EXPECT_EQ(original_destination(fd.get()).value().port.value, 0);
    ASSERT_EQ(::listen(fd.get(), 1), 0);
    EXPECT_NE(original_destination(fd.get()).value().port.value, 0);
  }
}

TEST_F(BindTransparent, says_what_it_was_about) {
  const UniqueFd first = open(Family::ipv4, SOCK_STREAM);
  const UniqueFd second = open(Family::ipv4, SOCK_STREAM);
  const SocketAddress local{.address = nobodys(Family::ipv4), .port = kPort};
  ASSERT_TRUE(bind_transparent(first.get(), local));
  const auto taken = bind_transparent(second.get(), local);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, EADDRINUSE);
  EXPECT_EQ(taken.error().object, "222.173.190.239:51966");
}

}  // namespace
}  // namespace limpid
