// Assumption: IP_TRANSPARENT and IPV6_TRANSPARENT are the same bit of an IPv6 socket, so that one of them serves its IPv4
// traffic as well. net/lent_socket.cc sets one only.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/kernel/testbed.h"

namespace limpid::testbed {
namespace {

using TransparentOptions = NamespaceTest;

TEST_F(TransparentOptions, one_shows_in_the_other) {
  const Namespace where;
  const UniqueFd fd = where.run([] { return UniqueFd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
  const int on = 1;
  ASSERT_EQ(::setsockopt(fd.get(), SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof on), 0);
  int seen = 0;
  socklen_t length = sizeof seen;
  ASSERT_EQ(::getsockopt(fd.get(), SOL_IP, IP_TRANSPARENT, &seen, &length), 0);
  EXPECT_EQ(seen, 1);
}

TEST_F(TransparentOptions, an_ipv6_socket_takes_a_mapped_foreign_address) {
  const Namespace where;
  const UniqueFd fd = where.run([] { return UniqueFd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  ASSERT_EQ(::inet_pton(AF_INET6, "::ffff:222.173.190.239", &mapped.sin6_addr), 1);
  const auto* native = reinterpret_cast<const sockaddr*>(&mapped);
  ASSERT_NE(::bind(fd.get(), native, sizeof mapped), 0) << "the control";
  const int on = 1;
  ASSERT_EQ(::setsockopt(fd.get(), SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof on), 0);
  EXPECT_EQ(::bind(fd.get(), native, sizeof mapped), 0);
}

}  // namespace
}  // namespace limpid::testbed
