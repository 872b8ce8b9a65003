// A relayed flow by hand, for tests of cut-through on the real kernel: the router of the testbed intercepts port 80, both legs are plain sockets, and
// the constants of the translation are read off them as docs/cut-through.md says.
#pragma once

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <memory>

#include "cutthrough/cut_through.h"
#include "tests/kernel/interception_rules.h"
#include "tests/kernel/testbed.h"

namespace limpid::testbed {

inline std::uint32_t tcp_number(int fd, int option) {
  std::uint32_t value = 0;
  socklen_t length = sizeof value;
  EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, option, &value, &length), 0) << option << ' ' << errno;
  return value;
}
inline void set_tcp_number(int fd, int option, int value) {
  EXPECT_EQ(::setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value), 0) << option << ' ' << errno;
}
inline std::uint32_t queued(int fd, unsigned long what) {
  int bytes = 0;
  EXPECT_EQ(::ioctl(fd, what, &bytes), 0);
  return static_cast<std::uint32_t>(bytes);
}

/// A socket's numbers, read in repair mode.
struct Numbers {
  std::uint32_t write_seq = 0;
  std::uint32_t rcv_nxt = 0;
  std::uint32_t unread = 0;
  std::uint32_t right_edge = 0;
  std::uint32_t clock = 0;
  tcp_info info{};
};
inline Numbers numbers_of(int fd) {
  Numbers numbers;
  set_tcp_number(fd, TCP_REPAIR, TCP_REPAIR_ON);
  set_tcp_number(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
  numbers.write_seq = tcp_number(fd, TCP_QUEUE_SEQ);
  set_tcp_number(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  do {
    numbers.rcv_nxt = tcp_number(fd, TCP_QUEUE_SEQ);
    numbers.unread = queued(fd, SIOCINQ);
  } while (numbers.rcv_nxt != tcp_number(fd, TCP_QUEUE_SEQ));
  tcp_repair_window window{};
  socklen_t length = sizeof window;
  EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &length), 0);
  numbers.right_edge = window.rcv_wup + window.rcv_wnd;
  set_tcp_number(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
  numbers.clock = tcp_number(fd, TCP_TIMESTAMP);
  length = sizeof numbers.info;
  EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &numbers.info, &length), 0);
  return numbers;
}

inline SocketAddress name_of(int fd, bool peer) {
  sockaddr_storage native{};
  socklen_t length = sizeof native;
  auto* address = reinterpret_cast<sockaddr*>(&native);
  EXPECT_EQ(peer ? ::getpeername(fd, address, &length) : ::getsockname(fd, address, &length), 0);
  return must(SocketAddress::from_native(native), "an address");
}

/// client ── client_leg, target_leg ── server.
struct Relayed {
  UniqueFd client;
  UniqueFd client_leg;
  UniqueFd target_leg;
  UniqueFd server;

  /// Copies what has arrived in either leg to the other. True if there was anything.
  bool relay() const {
    bool any = false;
    for (const auto& [from, to] :
         {std::pair(client_leg.get(), target_leg.get()), std::pair(target_leg.get(), client_leg.get())}) {
      std::array<char, 65536> buffer{};
      for (;;) {
        const ssize_t length = ::recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (length <= 0) break;
        any = true;
        for (ssize_t at = 0; at < length;) {
          const ssize_t sent = ::send(to, buffer.data() + at, static_cast<std::size_t>(length - at), MSG_NOSIGNAL);
          if (sent > 0) at += sent;
          if (sent < 0 && (errno != EAGAIN || !wait_for(to, POLLOUT, kPatience))) {
            ADD_FAILURE() << "send: " << errno;
            return false;
          }
        }
      }
    }
    return any;
  }
  [[nodiscard]] bool quiet() const {
    return queued(client_leg.get(), SIOCOUTQ) + queued(target_leg.get(), SIOCOUTQ) + queued(client_leg.get(), SIOCINQ) +
               queued(target_leg.get(), SIOCINQ) ==
           0;
  }
  [[nodiscard]] CutThroughFlow facts() const {
    const Numbers a = numbers_of(client_leg.get());
    const Numbers b = numbers_of(target_leg.get());
    CutThroughFlow flow;
    flow.up = {.from = name_of(client_leg.get(), true),
               .to = name_of(client_leg.get(), false),
               .new_from = name_of(target_leg.get(), false),
               .new_to = name_of(target_leg.get(), true),
               .seq_delta = b.write_seq - (a.rcv_nxt - a.unread),
               .peer_scale = a.info.tcpi_snd_wscale,
               .our_scale = b.info.tcpi_rcv_wscale,
               .clock = b.clock,
               .rcv_nxt = a.rcv_nxt,
               .right_edge = a.right_edge,
               .write_seq = a.write_seq};
    flow.down = {.from = flow.up.new_to,
                 .to = flow.up.new_from,
                 .new_from = flow.up.to,
                 .new_to = flow.up.from,
                 .seq_delta = a.write_seq - (b.rcv_nxt - b.unread),
                 .peer_scale = b.info.tcpi_snd_wscale,
                 .our_scale = a.info.tcpi_rcv_wscale,
                 .clock = a.clock,
                 .rcv_nxt = b.rcv_nxt,
                 .right_edge = b.right_edge,
                 .write_seq = b.write_seq};
    flow.timestamps = (a.info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
    flow.sack = (a.info.tcpi_options & TCPI_OPT_SACK) != 0;
    flow.facts.client = flow.up.from;
    flow.facts.original_destination = flow.up.to;
    flow.facts.target = flow.up.new_to;
    flow.facts.bytes_up = a.info.tcpi_bytes_received;
    flow.facts.bytes_down = b.info.tcpi_bytes_received;
    flow.facts.started_us =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    return flow;
  }
  /// Silently.
  void close_legs() {
    for (UniqueFd* leg : {&client_leg, &target_leg}) {
      set_tcp_number(leg->get(), TCP_REPAIR, TCP_REPAIR_ON);
      leg->reset();
    }
  }
};

/// The network with a router that intercepts port 80, and cut-through open there.
class CutThroughTest : public NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped()) return;
    LIMPID_NEEDS_NFT(net_.emplace().router, "tcp dport 80 tproxy ip to 127.0.0.1:1080");
    LIMPID_NEEDS_NFT(net_->router, "socket transparent 1");
    route_marked_packets(net_->router);
    add_prerouting(net_->router, kDivert + kTproxy);
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      listeners_.push_back(listen_transparent_in(net_->router, family, kListener));
    }
    before_ = net_->router.command("iproute2", {"tc", "qdisc", "show"});
    server_ = listen_plain(net_->server, Family::ipv6, kServerPort);  // of both families
    open();
  }
  void TearDown() override {
    if (!cut_) return;
    net_->router.run([&] { must(cut_->close([](const CutThroughRecord&) {}), "close"); });
    net_->router.run([&] { EXPECT_EQ(must(find_cut_through(), "look"), std::vector<std::string>()); });
  }

  void open() {
    auto opened = net_->router.run([&] { return CutThrough::open(options_); });
    if (!opened && opened.error().kind == ErrorKind::unsupported) GTEST_SKIP() << opened.error().message();
    ASSERT_TRUE(opened) << opened.error().message();
    cut_ = std::move(*opened);
  }

  /// A connection through the relay. The target sees the client's address, and another port.
  Relayed connect(Family family) {
    const std::size_t index = family == Family::ipv4 ? 0 : 1;
    Relayed flow;
    flow.client = must(connect_plain(net_->client, at(server_address(family), kServerPort)), "connect");
    flow.client_leg = accept_within(listeners_[index]);
    EXPECT_TRUE(flow.client_leg.valid());
    flow.target_leg = net_->router.run([&] {
      UniqueFd fd(::socket(family == Family::ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      const int on = 1;
      const int mark = 2;
      ::setsockopt(fd.get(), family == Family::ipv4 ? SOL_IP : SOL_IPV6,
                   family == Family::ipv4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof on);
      ::setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark);
      sockaddr_storage native{};
      auto length = at(client_address(family), 0).to_native(native);
      EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length), 0) << errno;
      length = at(server_address(family), kServerPort).to_native(native);
      EXPECT_TRUE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) == 0 || errno == EINPROGRESS);
      return must(established(std::move(fd), kPatience), "target leg");
    });
    flow.server = accept_within(server_);
    EXPECT_TRUE(flow.server.valid());
    return flow;
  }

  CutThroughId begin(const Relayed& flow) {
    return net_->router.run([&] { return must(cut_->begin(flow.facts()), "begin"); });
  }
  /// Until the legs have nothing left, and then without them.
  void settle(Relayed& flow, CutThroughId id) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (flow.relay() || !flow.quiet()) {
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "the legs do not drain: " << queued(flow.client_leg.get(), SIOCOUTQ) << ' '
                      << queued(flow.target_leg.get(), SIOCOUTQ);
        break;
      }
      std::this_thread::yield();
    }
    must(cut_->settle(id), "settle");
    flow.close_legs();
  }
  CutThroughId cut(Relayed& flow) {
    const CutThroughId id = begin(flow);
    settle(flow, id);
    return id;
  }
  std::vector<CutThroughRecord> collect() const {
    std::vector<CutThroughRecord> records;
    must(cut_->collect([&](const CutThroughRecord& record) { records.push_back(record); }), "collect");
    return records;
  }
  std::uint64_t counter(std::string_view name) const {
    for (const auto& [what, count] : must(cut_->counters(), "counters")) {
      if (what == name) return count;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }
  /// Waits for a state that must come.
  CutThroughState await(CutThroughId id, const std::function<bool(const CutThroughState&)>& wanted) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      const CutThroughState state = must(cut_->look(id), "look");
      if (wanted(state)) return state;
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "the flow does not get there";
        return state;
      }
      std::this_thread::yield();
    }
  }

  CutThroughOptions options_{.name = "test", .mark = 2};
  std::optional<Network> net_;
  std::vector<UniqueFd> listeners_;
  UniqueFd server_;
  std::string before_;  ///< the router's queueing disciplines
  std::unique_ptr<CutThrough> cut_;
};

}  // namespace limpid::testbed
