// A client – router – server network inside the test process, and TCP with deadlines in it. For tests that need real
// traffic: each builds its own, and it is gone with the test. A namespace is entered by a thread of its own, so the
// test's thread never moves; a socket stays in the namespace in which it was made, whoever uses it.
//
//   client 192.0.2.2, 2001:db8:1::2 ── lan: router :wan ── server 198.51.100.2, 2001:db8:2::2
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <exception>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/process.h"
#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/transparent.h"
#include "limpid/unique_fd.h"
#include "net/namespace.h"
#include "net/netlink.h"
#include "net/sysctl.h"

namespace limpid::testbed {

using Milliseconds = std::chrono::milliseconds;
/// For what must happen; only a broken test waits for all of it.
inline constexpr Milliseconds kPatience{5000};
/// For what must not happen: longer than a handshake on a busy machine takes, shorter than the first retransmission (1
/// s).
inline constexpr Milliseconds kSilence{400};

inline std::string why(const Error& error) {
  return error.message();
}
template <class T>
T must(Result<T> result, std::string_view what) {
  if (!result) {
    ADD_FAILURE() << what << ": " << result.error().message();
    throw std::runtime_error(std::string(what) + ": " + result.error().message());
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

/// A network namespace with loopback up.
class Namespace {
 public:
  Namespace() {
    std::thread([this] {
      if (auto entered = enter_new_network_namespace(); !entered) {
        error_ = entered.error().message();
      } else if (auto opened = current_network_namespace()) {
        descriptor_ = std::move(*opened);
      }
    }).join();
  }

  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  [[nodiscard]] bool exists() const { return descriptor_.valid(); }
  [[nodiscard]] const std::string& error() const { return error_; }

  /// Calls `function` inside and returns what it returns; an exception comes back too.
  template <class Function>
  auto run(Function function) const -> std::invoke_result_t<Function> {
    using Value = std::invoke_result_t<Function>;
    std::exception_ptr thrown;
    const auto inside = [&](auto&& body) {
      std::thread([&] {
        try {
          must(enter_network_namespace(descriptor_.get()), "enter a namespace");
          body();
        } catch (...) {
          thrown = std::current_exception();
        }
      }).join();
      if (thrown) std::rethrow_exception(thrown);
    };
    if constexpr (std::is_void_v<Value>) {
      inside([&] { function(); });
    } else {
      std::optional<Value> value;
      inside([&] { value.emplace(function()); });
      return std::move(*value);
    }
  }

  void set_sysctl(std::string_view key, std::string_view value) const {
    run([&] { must(write_sysctl(key, value), key); });
  }
  /// Runs a program with these arguments; fails the test when it does.
  std::string command(std::string_view package, std::vector<std::string> argv, std::string_view input = {}) const {
    return run([&] {
      argv.front() = must(find_system_program(argv.front(), package), "find a program");
      const auto output = must(run_process(argv, input), argv.front());
      EXPECT_EQ(output.exit_status, 0) << argv.front() << ": " << output.standard_error;
      return output.standard_output;
    });
  }
  std::string nft(std::string_view input) const { return command("nftables", {"nft", "-f", "-"}, input); }
  /// Everything that nft and ip show, to compare before and after.
  std::string snapshot() const {
    return command("nftables", {"nft", "-s", "list", "ruleset"}) + command("iproute2", {"ip", "-4", "rule"}) +
           command("iproute2", {"ip", "-6", "rule"}) +
           command("iproute2", {"ip", "-4", "route", "show", "table", "all"}) +
           command("iproute2", {"ip", "-6", "route", "show", "table", "all"}) +
           command("procps", {"sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"});
  }

 private:
  UniqueFd descriptor_;
  std::string error_;
};

inline SocketAddress at(std::string_view address, std::uint16_t port) {
  return {.address = must(IpAddress::parse(address), address), .port = Port{port}};
}

inline constexpr std::string_view kClient4 = "192.0.2.2";
inline constexpr std::string_view kClient6 = "2001:db8:1::2";
inline constexpr std::string_view kServer4 = "198.51.100.2";
inline constexpr std::string_view kServer6 = "2001:db8:2::2";

inline std::string_view client_address(Family family) {
  return family == Family::ipv4 ? kClient4 : kClient6;
}
inline std::string_view server_address(Family family) {
  return family == Family::ipv4 ? kServer4 : kServer6;
}

/// Starts listening at once; the address is any.
inline UniqueFd listen_plain(const Namespace& where, Family family, std::uint16_t port) {
  return where.run([&] {
    UniqueFd fd(::socket(family == Family::ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage native{};
    const auto length = SocketAddress{.address = IpAddress::any(family), .port = Port{port}}.to_native(native);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length), 0) << errno;
    EXPECT_EQ(::listen(fd.get(), 128), 0) << errno;
    return fd;
  });
}

inline UniqueFd listen_transparent_in(const Namespace& where, Family family, std::uint16_t port,
                                      const ListenOptions& options = {}) {
  return where.run([&] {
    return must(listen_transparent({.address = IpAddress::loopback(family), .port = Port{port}}, options), "listen");
  });
}

inline bool wait_for(int fd, short events, Milliseconds patience) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  return ::poll(&waiting, 1, static_cast<int>(patience.count())) > 0;
}

/// Waits until a started connection is there; the error's code says why it is not (ETIMEDOUT: nothing happened in
/// time).
inline Result<UniqueFd> established(UniqueFd fd, Milliseconds patience) {
  if (!wait_for(fd.get(), POLLOUT, patience)) return system_error(ETIMEDOUT, "connect", "");
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return system_error(error, "connect", "");
  return fd;
}

/// A client's ordinary connection, from `source_port` if that is not 0.
inline Result<UniqueFd> connect_plain(const Namespace& where, const SocketAddress& target,
                                      Milliseconds patience = kPatience, std::uint16_t source_port = 0) {
  return where.run([&]() -> Result<UniqueFd> {
    UniqueFd fd(
        ::socket(target.family() == Family::ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_storage native{};
    if (source_port != 0) {
      const int on = 1;
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      const auto length =
          SocketAddress{.address = IpAddress::any(target.family()), .port = Port{source_port}}.to_native(native);
      if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0)
        return system_error(errno, "bind", "");
    }
    const auto length = target.to_native(native);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0 && errno != EINPROGRESS) {
      return system_error(errno, "connect", "");
    }
    return established(std::move(fd), patience);
  });
}

/// An invalid descriptor when nobody came in time.
inline UniqueFd accept_within(const UniqueFd& listener, Milliseconds patience = kPatience) {
  if (!wait_for(listener.get(), POLLIN, patience)) return {};
  return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

inline void send_text(const UniqueFd& fd, std::string_view text) {
  EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size())) << errno;
}
/// What arrives first; "" at the end of the stream, "error N" on an error, "silence" when nothing arrives.
inline std::string receive_text(const UniqueFd& fd, Milliseconds patience = kPatience) {
  if (!wait_for(fd.get(), POLLIN, patience)) return "silence";
  std::array<char, 4096> buffer{};
  const ssize_t length = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
  return length < 0 ? "error " + std::to_string(errno) : std::string(buffer.data(), static_cast<std::size_t>(length));
}
/// Both directions of a connection work.
inline void expect_conversation(const UniqueFd& one, const UniqueFd& other) {
  send_text(one, "there");
  EXPECT_EQ(receive_text(other), "there");
  send_text(other, "and back");
  EXPECT_EQ(receive_text(one), "and back");
}

/// The network above. The router forwards both families.
struct Network {
  Namespace client;
  Namespace router;
  Namespace server;

  Network() {
    // A link is declared ready at once, and not within a second, if its index differs from its peer's
    // (linkwatch_urgent_event in net/core/link_watch.c). This pair makes the indices differ.
    router.run(
        [&] { must(must(RouteSocket::open(), "netlink").add_veth("spare0", "spare1", router.descriptor()), "veth"); });
    for (const Namespace* host : {&client, &router, &server})
      host->set_sysctl("net.ipv6.conf.default.dad_transmits", "0");
    connect(client, "2001:db8:1", "192.0.2", "lan");
    connect(server, "2001:db8:2", "198.51.100", "wan");
    router.set_sysctl("net.ipv4.ip_forward", "1");
    router.set_sysctl("net.ipv6.conf.all.forwarding", "1");
    wait_until_ready();
  }

 private:
  /// The kernel declares a new link ready for IPv6 up to a second later (net/core/link_watch.c), and drops packets
  /// until then.
  void wait_until_ready() const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (const std::string_view address : {kServer4, kServer6}) {
      while (std::chrono::steady_clock::now() < deadline) {
        const auto refused = connect_plain(client, at(address, 1), Milliseconds(20));
        if (!refused && refused.error().code == ECONNREFUSED) break;
      }
    }
  }
  void connect(const Namespace& host, const std::string& net6, const std::string& net4, const std::string& name) const {
    router.run([&] {
      auto socket = must(RouteSocket::open(), "netlink");
      must(socket.add_veth(name, "eth0", host.descriptor()), "veth");
      configure(socket, name, net4 + ".1", net6 + "::1");
    });
    host.run([&] {
      auto socket = must(RouteSocket::open(), "netlink");
      configure(socket, "eth0", net4 + ".2", net6 + "::2");
      for (const std::string& gateway : {net4 + ".1", net6 + "::1"}) {
        const auto address = must(IpAddress::parse(gateway), gateway);
        RouteSpec route;
        route.destination = Prefix::everything(address.family());
        route.table = TableId{254};
        route.device = "eth0";
        route.gateway = address;
        must(socket.add_route(route), "default route");
      }
    });
  }
  static void configure(RouteSocket& socket, const std::string& link, const std::string& ipv4,
                        const std::string& ipv6) {
    must(socket.add_address(link, must(IpAddress::parse(ipv4), ipv4), 24), ipv4);
    must(socket.add_address(link, must(IpAddress::parse(ipv6), ipv6), 64), ipv6);
    // A neighbour solicitation that is sent too early is lost, and repeated after a second.
    must(write_sysctl("net.ipv6.neigh." + link + ".retrans_time_ms", "20"), "retrans_time_ms");
    must(socket.set_link_up(link), link);
  }
};

/// Base of tests in namespaces: skips, with the reason, where they cannot be made.
class NamespaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Namespace probe;
    if (!probe.exists()) GTEST_SKIP() << "needs network namespaces: " << probe.error();
  }
};

/// Skips where nft does not take a rule: the kernel lacks its expression.
inline bool nft_accepts(const Namespace& where, const std::string& rule) {
  return where.run([&] {
    const auto program = find_system_program("nft", "nftables");
    if (!program) return false;
    const auto output = run_process(
        std::vector<std::string>{*program, "--check", "-f", "-"},
        "table inet probe {\n chain c {\n  type filter hook prerouting priority mangle;\n  " + rule + "\n }\n}\n");
    return output && output->exit_status == 0;
  });
}

}  // namespace limpid::testbed
