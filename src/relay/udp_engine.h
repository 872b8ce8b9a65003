// UdpEngine: relays the datagrams of one worker. Has an epoll of its own, which the worker watches like any other
// descriptor.
//
// Theory of operation. A listener receives a datagram together with its original destination. The session it belongs to
// (by client alone, or by client and destination) has one socket, the target leg, bound to the client's address where
// the source mode says so and *not* connected with endpoint-independent mapping, so that any host can answer (RFC
// 4787). Replies reach that socket because the plan diverts datagrams for transparent sockets. They go back to the
// client through a raw socket, with the answering host's address as source: no socket is ever bound to a server's
// address. That settles three things: no local server's port is in the way; the client's next datagram cannot be taken
// by a reply socket, but comes to the listener like the first; and a session costs one descriptor.
//
// All datagrams of one client address and port come to one worker: TPROXY looks the listener up by the client's address
// and the listener's own (net/netfilter/nft_tproxy.c), never by the original destination.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "limpid/datagram.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "policy/decision.h"
#include "relay/counters.h"
#include "relay/flow_record.h"
#include "relay/icmp_limit.h"
#include "relay/timer_wheel.h"
#include "relay/udp_session_table.h"

namespace limpid {

/// RFC 4787's two behaviours that matter to applications.
enum class NatBehavior : std::uint8_t { endpoint_independent, address_and_port_dependent };

struct UdpTimeouts {
  /// RFC 4787 REQ-5: a mapping lives at least two minutes, five are recommended.
  std::chrono::milliseconds answered{300'000};
  std::chrono::milliseconds unanswered{30'000};
  /// A question to port 53 that has its answer: RFC 4787 permits shorter times for well-known ports.
  std::chrono::milliseconds dns{10'000};
};

struct UdpOptions {
  std::shared_ptr<const Policy> policy;
  std::uint32_t bypass_mark = 0;
  std::uint32_t answer_mark = 0;  ///< on what is sent to clients in the name of others
  NatBehavior mapping = NatBehavior::endpoint_independent;
  NatBehavior filtering = NatBehavior::endpoint_independent;
  UdpTimeouts timeouts;
  UdpLimits limits;
};

class UdpEngine {
 public:
  using Emit = std::function<void(const FlowRecord&)>;

  /// `emit` takes the record of every session that has ended. `counters` is the worker's.
  [[nodiscard]] static Result<std::unique_ptr<UdpEngine>> create(const UdpOptions& options,
                                                                 std::vector<UniqueFd> listeners, Counters& counters,
                                                                 Emit emit);

  /// Readable when run() has something to do.
  [[nodiscard]] int descriptor() const noexcept { return epoll_.get(); }
  /// Handles what is ready, a bounded amount, and what has expired.
  void run(std::uint64_t now_ms);
  [[nodiscard]] int wait_ms(std::uint64_t now_ms) const noexcept { return timers_.wait_ms(now_ms); }
  void close_listeners() noexcept { listeners_.clear(); }
  void end_all(FlowEnd reason);
  [[nodiscard]] std::size_t sessions() const noexcept { return sessions_.size(); }

 private:
  UdpEngine(const UdpOptions& options, UniqueFd epoll, Counters& counters, Emit emit);

  void receive_from_clients(int listener);
  void send_up(std::span<const ReceivedDatagram> run);
  [[nodiscard]] UdpSession* find_or_open(const ReceivedDatagram& datagram, const Dial& dial);
  [[nodiscard]] UdpSession* open(const UdpSessionKey& key, const ReceivedDatagram& datagram, const Dial& dial);
  [[nodiscard]] Result<UniqueFd> open_leg(const Dial& dial, const SocketAddress& client, SourceMode& source);
  void receive_from_targets(UdpSession& session);
  void report_expiry(const SocketAddress& to, SocketAddress about, const ReceivedDatagram& datagram);
  [[nodiscard]] bool admits(const UdpSession& session, const SocketAddress& peer) const noexcept;
  void pass_on_errors(UdpSession& session);
  [[nodiscard]] SocketAddress as_client_knows(const UdpSession& session, const SocketAddress& target) const noexcept;
  [[nodiscard]] UdpSessionKey key_of(const ReceivedDatagram& datagram) const noexcept;
  void schedule(const UdpSession& session);
  [[nodiscard]] std::uint64_t deadline_ms(const UdpSession& session) const noexcept;
  void end(UdpSession& session, FlowEnd end);
  [[nodiscard]] RawSender* sender(Family family) noexcept;

  UdpOptions options_;
  UniqueFd epoll_;
  std::vector<UniqueFd> listeners_;
  std::optional<RawSender> sender_ipv4_;
  std::optional<RawSender> sender_ipv6_;
  IcmpLimit icmp_limit_;
  Counters& counters_;
  Emit emit_;
  UdpSessionTable sessions_;
  TimerWheel timers_;
  DatagramBatch batch_;
  std::vector<std::span<const std::byte>> payloads_;  ///< scratch
  std::vector<SpoofedDatagram> replies_;              ///< scratch
  std::vector<std::uint32_t> expired_;                ///< scratch
  std::uint64_t now_ms_ = 0;
};

}  // namespace limpid
