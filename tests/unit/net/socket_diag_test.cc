// Who waits for connections and datagrams, told by the real kernel in two ways that have to agree.
#include "net/socket_diag.h"

#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <tuple>

#include "fresh_namespace.h"
#include "net/proc_sockets.h"

namespace limpid {
namespace {

constexpr std::array kFamilies = {Family::ipv4, Family::ipv6};
constexpr std::array kTransports = {Transport::tcp, Transport::udp};

struct Binding {
  Transport transport = Transport::tcp;
  IpAddress address;
  bool transparent = false;
  bool ipv6_only = true;
};

struct BoundSocket {
  UniqueFd fd;
  Port port;
  std::uint32_t inode = 0;
};

void set_option(const UniqueFd& fd, int level, int name, int value) {
  ASSERT_EQ(::setsockopt(fd.get(), level, name, &value, sizeof value), 0) << errno;
}

/// A server's socket, on a port that the kernel chooses.
BoundSocket bound(const Binding& binding) {
  const bool ipv4 = binding.address.family() == Family::ipv4;
  const bool tcp = binding.transport == Transport::tcp;
  BoundSocket made;
  made.fd = UniqueFd(::socket(ipv4 ? AF_INET : AF_INET6, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  if (!ipv4) set_option(made.fd, SOL_IPV6, IPV6_V6ONLY, binding.ipv6_only ? 1 : 0);
  if (binding.transparent) {
    set_option(made.fd, ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, 1);
  }
  sockaddr_storage native{};
  socklen_t length = SocketAddress{.address = binding.address, .port = {}}.to_native(native);
  EXPECT_EQ(::bind(made.fd.get(), reinterpret_cast<const sockaddr*>(&native), length), 0) << errno;
  if (tcp) {
    EXPECT_EQ(::listen(made.fd.get(), 1), 0) << errno;
  }
  length = sizeof native;
  EXPECT_EQ(::getsockname(made.fd.get(), reinterpret_cast<sockaddr*>(&native), &length), 0);
  made.port = SocketAddress::from_native(native).value().port;
  struct stat status{};
  EXPECT_EQ(::fstat(made.fd.get(), &status), 0);
  made.inode = static_cast<std::uint32_t>(status.st_ino);
  return made;
}

class SocketDiag : public FreshNamespace {
 protected:
  /// The only socket on that port.
  static ServerSocket only(Transport transport, Port port) {
    const auto found = server_sockets(transport, port);
    EXPECT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->size(), 1U);
    return found && found->size() == 1 ? found->front() : ServerSocket{};
  }
};

TEST_F(SocketDiag, tells_address_family_port_and_inode) {
  for (const Transport transport : kTransports) {
    for (const Family family : kFamilies) {
      for (const IpAddress& address : {IpAddress::loopback(family), IpAddress::any(family)}) {
        const auto socket = bound({.transport = transport, .address = address});
        const auto found = only(transport, socket.port);
        EXPECT_EQ(found.transport, transport);
        EXPECT_EQ(found.local, (SocketAddress{.address = address, .port = socket.port}));
        EXPECT_EQ(found.inode, socket.inode);
        EXPECT_EQ(found.device, "");
        EXPECT_FALSE(found.connected);
      }
    }
  }
}

TEST_F(SocketDiag, tells_a_transparent_socket_from_one_that_is_not) {
  for (const Transport transport : kTransports) {
    for (const Family family : kFamilies) {
      const auto plain = bound({.transport = transport, .address = IpAddress::any(family)});
      const auto transparent = bound({.transport = transport, .address = IpAddress::any(family), .transparent = true});
      const auto known = only(transport, plain.port).transparent;
      if (!known) GTEST_SKIP() << "this kernel does not tell whether a socket is transparent (before 5.10)";
      EXPECT_EQ(known, false);
      EXPECT_EQ(only(transport, transparent.port).transparent, true);
    }
  }
}

TEST_F(SocketDiag, tells_whether_a_socket_of_ipv6_takes_ipv4_as_well) {
  for (const bool ipv6_only : {true, false}) {
    const auto socket = bound({.address = IpAddress::any(Family::ipv6), .ipv6_only = ipv6_only});
    const auto found = only(Transport::tcp, socket.port);
    EXPECT_EQ(found.ipv6_only, ipv6_only);
    EXPECT_TRUE(found.hears_loopback(Family::ipv6));
    EXPECT_EQ(found.hears_loopback(Family::ipv4), !ipv6_only);
  }
}

TEST_F(SocketDiag, tells_the_mark_the_user_and_the_interface) {
  const auto socket = bound({.address = IpAddress::any(Family::ipv4)});
  set_option(socket.fd, SOL_SOCKET, SO_MARK, 0x123);
  ASSERT_EQ(::setsockopt(socket.fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
  const auto found = only(Transport::tcp, socket.port);
  EXPECT_EQ(found.mark, 0x123U);
  EXPECT_EQ(found.user, ::geteuid());
  EXPECT_EQ(found.device, "lo");
}

TEST_F(SocketDiag, hears_loopback_where_it_is_bound_to_it_or_to_everything) {
  const auto hears = [](std::string_view address, Family family) {
    ServerSocket socket;
    socket.local.address = IpAddress::parse(address).value();
    return socket.hears_loopback(family);
  };
  EXPECT_TRUE(hears("127.0.0.1", Family::ipv4));
  EXPECT_TRUE(hears("0.0.0.0", Family::ipv4));
  EXPECT_TRUE(hears("::1", Family::ipv6));
  EXPECT_TRUE(hears("::ffff:127.0.0.1", Family::ipv4));
  EXPECT_FALSE(hears("127.0.0.2", Family::ipv4));
  EXPECT_FALSE(hears("0.0.0.0", Family::ipv6));
  EXPECT_FALSE(hears("192.0.2.1", Family::ipv4));
  EXPECT_FALSE(hears("2001:db8::1", Family::ipv6));
  EXPECT_FALSE(hears("::ffff:127.0.0.1", Family::ipv6));
}

TEST_F(SocketDiag, a_udp_socket_with_a_peer_hears_nobody_else) {
  const auto socket = bound({.transport = Transport::udp, .address = IpAddress::any(Family::ipv4)});
  sockaddr_storage native{};
  const auto length = SocketAddress{.address = IpAddress::loopback(Family::ipv4), .port = {9}}.to_native(native);
  ASSERT_EQ(::connect(socket.fd.get(), reinterpret_cast<const sockaddr*>(&native), length), 0);
  const auto found = only(Transport::udp, socket.port);
  EXPECT_TRUE(found.connected);
  EXPECT_FALSE(found.hears_loopback(Family::ipv4));
}

TEST_F(SocketDiag, connections_are_no_servers) {
  const auto listener = bound({.address = IpAddress::loopback(Family::ipv4)});
  const UniqueFd caller(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage native{};
  const auto length =
      SocketAddress{.address = IpAddress::loopback(Family::ipv4), .port = listener.port}.to_native(native);
  ASSERT_EQ(::connect(caller.get(), reinterpret_cast<const sockaddr*>(&native), length), 0);
  EXPECT_EQ(server_sockets(Transport::tcp, {}).value().size(), 1U);
}

TEST_F(SocketDiag, a_port_of_the_other_transport_is_not_its_own) {
  const auto socket = bound({.transport = Transport::udp, .address = IpAddress::any(Family::ipv4)});
  EXPECT_EQ(server_sockets(Transport::tcp, socket.port).value().size(), 0U);
}

/// What both know.
std::vector<std::tuple<SocketAddress, bool, std::uint32_t, std::uint32_t>> known_to_proc(
    const std::vector<ServerSocket>& sockets) {
  std::vector<std::tuple<SocketAddress, bool, std::uint32_t, std::uint32_t>> known;
  for (const auto& socket : sockets) known.emplace_back(socket.local, socket.connected, socket.user, socket.inode);
  std::ranges::sort(known);
  return known;
}

TEST_F(SocketDiag, says_the_same_as_proc) {
  std::vector<BoundSocket> sockets;
  for (const Transport transport : kTransports) {
    for (const Family family : kFamilies) {
      sockets.push_back(bound({.transport = transport, .address = IpAddress::any(family)}));
      sockets.push_back(bound({.transport = transport, .address = IpAddress::loopback(family)}));
    }
  }
  sockets.push_back(bound({.address = IpAddress::parse("2001:db8::5").value(), .transparent = true}));
  for (const Transport transport : kTransports) {
    const auto told = known_to_proc(server_sockets(transport, {}).value());
    EXPECT_EQ(told.size(), transport == Transport::tcp ? 5U : 4U);
    EXPECT_EQ(told, known_to_proc(server_sockets_in_proc(transport, {})));
  }
  EXPECT_EQ(server_sockets_in_proc(Transport::tcp, sockets.back().port).size(), 1U);
}

TEST_F(SocketDiag, more_sockets_than_one_answer_holds) {
  std::vector<BoundSocket> sockets;
  for (int i = 0; i < 600; ++i) sockets.push_back(bound({.address = IpAddress::loopback(Family::ipv6)}));
  EXPECT_EQ(server_sockets(Transport::tcp, {}).value().size(), sockets.size());
}

TEST(ProcSocket, lines_that_make_no_sense_are_none) {
  const std::string good =
      "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 777 1";
  ASSERT_TRUE(read_proc_socket(Transport::tcp, Family::ipv4, good));
  EXPECT_EQ(read_proc_socket(Transport::tcp, Family::ipv4, good)->local.to_string(), "127.0.0.1:8080");
  EXPECT_FALSE(read_proc_socket(Transport::tcp, Family::ipv6, good));
  EXPECT_FALSE(read_proc_socket(Transport::udp, Family::ipv4, good)) << "state 0A is no state of UDP";
  for (std::size_t length = 0; length < good.size() - 4; ++length) {
    EXPECT_FALSE(read_proc_socket(Transport::tcp, Family::ipv4, good.substr(0, length))) << length;
  }
  EXPECT_FALSE(read_proc_socket(Transport::tcp, Family::ipv4,
                                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
                                "timeout inode"));
  EXPECT_FALSE(read_proc_socket(Transport::tcp, Family::ipv4, "0: 0100007G:1F90 0:0 0A 0:0 0:0 0 0 0 7"));
  EXPECT_FALSE(read_proc_socket(Transport::tcp, Family::ipv4, "0: 0100007F:11F90 0:0 0A 0:0 0:0 0 0 0 7"));
}

}  // namespace
}  // namespace limpid
