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
#include "relay/datagram_offloader.h"
#include "relay/decider.h"
#include "relay/flow_query.h"
#include "relay/flow_record.h"
#include "relay/icmp_limit.h"
#include "relay/name_lookups.h"
#include "relay/timer_wheel.h"
#include "relay/udp_session_table.h"
#include "sniff/quic_crypto.h"
#include "sniff/quic_sniffer.h"
#include "upstream/groups.h"

namespace limpid {

/// RFC 4787's two behaviours that matter to applications.
enum class NatBehavior : std::uint8_t { endpoint_independent, address_and_port_dependent };

struct UdpTimeouts {
  /// RFC 4787 REQ-5: a mapping lives at least two minutes, five are recommended.
  std::chrono::milliseconds answered{300'000};
  std::chrono::milliseconds unanswered{30'000};
  /// A question to port 53 that has its answer: RFC 4787 permits shorter times for well-known ports.
  std::chrono::milliseconds dns{10'000};
  /// How long datagrams are held for a decision that needs more of them.
  std::chrono::milliseconds sniff{300};
};

struct UdpOptions {
  std::shared_ptr<const Policy> policy;
  std::shared_ptr<const CurrentRules> rules;  ///< nullptr: none, ever
  std::uint32_t bypass_mark = 0;
  std::uint32_t answer_mark = 0;  ///< on what is sent to clients in the name of others
  NatBehavior mapping = NatBehavior::endpoint_independent;
  NatBehavior filtering = NatBehavior::endpoint_independent;
  UdpTimeouts timeouts;
  UdpLimits limits;
  std::shared_ptr<const UpstreamGroups> upstreams{};  ///< that the policy may name; nullptr: none
  NameLookups* names = nullptr;                       ///< outlives the engine; nullptr: nothing goes by name
  std::shared_ptr<NameMailbox> mailbox{};             ///< the worker's, which hands on what concerns the engine
  NameHints* hints = nullptr;                         ///< outlives the engine; nullptr: no DNS is looked at
};

class UdpEngine {
 public:
  using Emit = std::function<void(const FlowRecord&)>;

  /// `emit` takes the record of every session that has ended. `counters` is the worker's.
  [[nodiscard]] static Result<std::unique_ptr<UdpEngine>> create(const UdpOptions& options,
                                                                 std::vector<UniqueFd> listeners, Counters& counters,
                                                                 Emit emit, const UdpHandOver& hand_over = {});

  /// Readable when run() has something to do.
  [[nodiscard]] int descriptor() const noexcept { return epoll_.get(); }
  /// Handles what is ready, a bounded amount, and what has expired.
  void run(std::uint64_t now_ms);
  [[nodiscard]] int wait_ms(std::uint64_t now_ms) const noexcept;
  void close_listeners() noexcept { listeners_.clear(); }
  void end_all(FlowEnd reason);
  /// One slot of its table: empty where no session lives, or only a remnant of one that has left.
  [[nodiscard]] std::optional<FlowView> view_session(std::uint32_t index, std::uint64_t now_ms);
  /// Of a slot that view_session() has shown.
  [[nodiscard]] std::optional<FlowLegs> legs_of(std::uint32_t index);
  [[nodiscard]] std::uint32_t session_slots() const noexcept { return sessions_.capacity(); }
  /// False where there is none of that name.
  [[nodiscard]] bool kill(std::uint32_t index, std::uint32_t generation);
  /// The answer to a question of the engine's.
  void take_name(const NameNews& news, std::uint64_t now_ms);
  /// One slot of its tables (rulings, then sessions): ends it if the rules of now forbid it, and forgets that it was allowed. True: that ended something that is relayed here.
  [[nodiscard]] bool end_if_forbidden(std::uint32_t slot);
  [[nodiscard]] std::uint32_t slots() const noexcept { return rulings_.capacity() + sessions_.capacity(); }
  [[nodiscard]] std::size_t sessions() const noexcept { return sessions_.size(); }
  /// How many sessions stayed for this reason; by anybody, at any time.
  [[nodiscard]] std::uint64_t stayed(StayReason reason) const noexcept {
    return offloader_ != nullptr ? offloader_->stayed(reason) : 0;
  }

 private:
  /// In an event's data: it is about the session's control connection.
  static constexpr std::uint64_t kControlBit = std::uint64_t{1} << 31U;

  UdpEngine(const UdpOptions& options, UniqueFd epoll, Counters& counters, Emit emit);

  void receive_from_clients(int listener);
  void send_up(std::span<const ReceivedDatagram> run);
  UdpSession* relay(std::span<const ReceivedDatagram> run, const FlowVerdict& verdict);
  [[nodiscard]] UdpSession* find_or_open(const ReceivedDatagram& datagram, const FlowVerdict& verdict);
  [[nodiscard]] UdpSession* open(const UdpSessionKey& key, const ReceivedDatagram& datagram,
                                 const FlowVerdict& verdict);
  // udp_rules.cc
  void ask_rules(std::span<const ReceivedDatagram> run);
  [[nodiscard]] UdpSession* begin_ruling(const ReceivedDatagram& first);
  void look(UdpSession& entry, const ReceivedDatagram& datagram);
  void decide(UdpSession& entry, SniffOutcome outcome, const Sniffed& sniffed);
  void decide_alone(UdpSession& entry, const ReceivedDatagram& datagram);
  void conclude(UdpSession& entry);
  // udp_names.cc
  [[nodiscard]] bool awaits_name(UdpSession& entry);
  void follow_name(UdpSession& entry, const ResolvedName& resolved);
  void hold_for_name(UdpRuling& ruling, const ReceivedDatagram& datagram);
  void give_up_name(UdpSession& entry);
  // udp_dns.cc
  [[nodiscard]] bool reads_dns(const SocketAddress& destination) const noexcept {
    return options_.hints != nullptr && destination.port == kDnsPort;
  }
  void note_questions(UdpSession& session, std::span<const ReceivedDatagram> run, const SocketAddress& target);
  void learn_names(const UdpSession& session, const ReceivedDatagram& datagram);
  [[nodiscard]] bool hold(UdpRuling& ruling, const ReceivedDatagram& datagram);
  void obey(UdpSession& entry, std::span<const ReceivedDatagram> run, const FlowVerdict& verdict);
  void record_refusal(const UdpSession& entry, const FlowVerdict& verdict);
  void expire_rulings();
  void forget(UdpSession& entry);
  [[nodiscard]] bool end_ruling_if_forbidden(std::uint32_t index);
  [[nodiscard]] bool end_cut_if_forbidden(std::uint32_t index);
  [[nodiscard]] Result<UniqueFd> open_leg(const Dial& dial, const SocketAddress& client, SourceMode& source);
  [[nodiscard]] bool send_by_upstream(std::span<const ReceivedDatagram> run, const FlowVerdict& verdict);
  void reject(std::span<const ReceivedDatagram> run);
  [[nodiscard]] UdpSession* open_association(const ReceivedDatagram& datagram, const FlowVerdict& verdict,
                                             UpstreamGroup& group);
  void associate_with_next(UdpSession& session);
  [[nodiscard]] bool call_upstream(UdpSession& session, const Upstream& upstream);
  void go_without_association(UdpSession& session);
  void serve_control(UdpSession& session);
  void begin_association(UdpSession& session);
  void fail_association(UdpSession& session, bool at_fault);
  void send_associated(UdpSession& session, const SocketAddress& destination, std::span<const std::byte> payload);
  void book_sent(UdpSession& session, std::size_t sent, std::size_t bytes, std::size_t wanted) noexcept;
  [[nodiscard]] const ReceivedDatagram* unwrap(const UdpSession& session, const ReceivedDatagram& datagram);
  void note_contact(UdpSession& session, const SocketAddress& target);
  void receive_from_targets(UdpSession& session);
  void report(const IcmpError& error, const SocketAddress& to, SocketAddress about, const ReceivedDatagram& datagram);
  [[nodiscard]] bool admits(const UdpSession& session, const SocketAddress& peer) const noexcept;
  void pass_on_errors(UdpSession& session);
  [[nodiscard]] SocketAddress as_client_knows(const UdpSession& session, const SocketAddress& target) const noexcept;
  [[nodiscard]] UdpSessionKey key_of(const ReceivedDatagram& datagram, bool own_session) const noexcept;
  void schedule(const UdpSession& session);
  [[nodiscard]] std::uint64_t deadline_ms(const UdpSession& session) const noexcept;
  void end(UdpSession& session, FlowEnd end);
  [[nodiscard]] RawSender* sender(Family family) noexcept;

  struct Candidate {
    std::uint32_t index = 0;
    std::uint32_t generation = 0;
    std::uint64_t since_ms = 0;
  };
  void note(UdpSession& session, const SocketAddress& partner, bool answer, std::size_t datagrams);
  void hand_over_candidates();
  void hand_over(UdpSession& session);
  [[nodiscard]] Ruling ruling_of(const SocketAddress& client, const SocketAddress& destination);
  void retire(UdpSession& session);
  void revive(UdpSession& session, const SocketAddress& destination, const SocketAddress& target);
  void give_back_bytes(UdpSession& session);
  [[nodiscard]] bool refresh(UdpSession& session);
  void make_room(const IpAddress& client);
  [[nodiscard]] bool is_taken(const UniqueFd& leg, const Dial& dial);
  [[nodiscard]] std::optional<SocketAddress> source_of(const UdpSession& session, const SocketAddress& target) const;

  UdpOptions options_;
  UniqueFd epoll_;
  std::vector<UniqueFd> listeners_;
  std::optional<RawSender> sender_ipv4_;
  std::optional<RawSender> sender_ipv6_;
  IcmpLimit icmp_limit_;
  Counters& counters_;
  Emit emit_;
  UdpSessionTable sessions_;
  std::unique_ptr<DatagramOffloader> offloader_;  ///< nullptr: every session stays
  std::vector<Candidate> candidates_;
  bool listener_busy_ = false;  ///< more waits there than was taken
  TimerWheel timers_;
  Decider decider_;
  UdpSessionTable rulings_;  ///< where there are rules: what they said of a client and a destination
  TimerWheel ruling_timers_;
  std::size_t held_bytes_ = 0;
  std::optional<QuicCrypto> quic_crypto_;  ///< where there may be rules
  QuicSniffer first_look_;                 ///< scratch: one datagram is enough for most handshakes
  DatagramBatch batch_;
  std::vector<std::span<const std::byte>> payloads_;  ///< scratch
  std::vector<SpoofedDatagram> replies_;              ///< scratch
  std::vector<std::uint32_t> expired_;                ///< scratch
  std::vector<std::byte> wrapped_;                    ///< scratch
  ReceivedDatagram unwrapped_;                        ///< scratch
  std::uint64_t now_ms_ = 0;
};

}  // namespace limpid
