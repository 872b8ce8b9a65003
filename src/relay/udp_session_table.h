// UdpSessionTable: the UDP sessions of one worker, found by client (or client and destination), bounded in total and
// per source. One thread, no locks.
//
// Theory of operation. Sessions stand in two queues, each ordered by last use: those that a target has answered and
// those that none has. Room is made by ending the least recently used unanswered session, then the least recently used
// answered one: a flood of spoofed sources, which nobody answers, evicts only itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "limpid/address.h"
#include "limpid/unique_fd.h"
#include "policy/decision.h"
#include "relay/dns_watch.h"
#include "relay/flow_record.h"
#include "relay/udp_association.h"
#include "relay/udp_ruling.h"

namespace limpid {

/// What sessions are told apart by. With endpoint-independent mapping (RFC 4787) `destination` is left empty.
struct UdpSessionKey {
  SocketAddress client;
  SocketAddress destination;
  bool operator==(const UdpSessionKey&) const = default;
};

/// Datagrams in a row between the client and one target: what is worth handing over (cut-through).
struct UdpExchange {
  SocketAddress partner;
  std::uint16_t datagrams = 0;
  bool asked = false;     ///< the client has written
  bool answered = false;  ///< the partner has
};

struct UdpSession {
  UniqueFd fd;  ///< the target leg
  UdpSessionKey key;
  SocketAddress original_destination;  ///< of the first datagram
  SocketAddress target;                ///< where the first datagram went
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::uint64_t started_ms = 0;          ///< monotonic
  std::uint64_t last_activity_ms = 0;    ///< monotonic
  std::vector<SocketAddress> contacted;  ///< targets, for address-and-port-dependent filtering only
  std::uint32_t index = 0;               ///< its slot
  std::uint32_t generation = 0;          ///< odd while in use
  std::uint32_t newer = 0;               ///< neighbours in its queue
  std::uint32_t older = 0;
  UdpExchange exchange;                ///< the latest
  Ruling ruling;                       ///< that of the first datagram
  std::unique_ptr<UdpRuling> decided;  ///< of an entry that has no socket, but remembers a decision (udp_rules.cc)
  SourceMode source = SourceMode::none;
  bool answered = false;
  bool mixed = false;             ///< there were exchanges with others before the latest
  bool candidate = false;         ///< the latest waits to be handed over
  bool routed_otherwise = false;  ///< than packets with its addresses and the bypass mark
  bool stays = false;             ///< none is handed over any more
  bool cut = false;     ///< that with `target` is forwarded past us; the socket is kept for the port and for others
  bool spent = false;   ///< the same, and nothing is kept: gone in a moment
  bool counted = true;  ///< its end is to be counted
  bool fixed_target = false;                         ///< the client knows its targets by the original destination
  std::unique_ptr<UdpAssociation> association = {};  ///< through an upstream; nullptr: none
  std::unique_ptr<DnsWatch> dns = {};                ///< it has asked a resolver, and names are learnt; nullptr: not
};

struct UdpLimits {
  std::size_t total = 0;       ///< sessions of this worker
  std::size_t per_source = 0;  ///< sessions of one client address
};

class UdpSessionTable {
 public:
  /// `seed` must not be known to clients: it keeps them from choosing addresses that collide.
  UdpSessionTable(const UdpLimits& limits, std::uint64_t seed);

  [[nodiscard]] UdpSession* find(const UdpSessionKey& key) noexcept;
  [[nodiscard]] UdpSession* find(std::uint32_t index, std::uint32_t generation) noexcept;
  [[nodiscard]] UdpSession* at(std::uint32_t index) noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return by_key_.size(); }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return static_cast<std::uint32_t>(slots_.size()); }

  /// Who must end before a session of `client` can be created: nobody (nullptr) while there is room; when the client
  /// has used up its own share, the client's own least useful session; else the least useful of all.
  [[nodiscard]] UdpSession* victim_for(const IpAddress& client) noexcept;
  /// A fresh session. There must be room (victim_for).
  [[nodiscard]] UdpSession& create(const UdpSessionKey& key);
  /// Closes its socket and frees the slot.
  void destroy(UdpSession& session) noexcept;

  /// Notes a use, which makes it the most recent of its queue.
  void touch(UdpSession& session, std::uint64_t now_ms) noexcept;
  /// Notes that a target has answered.
  void mark_answered(UdpSession& session) noexcept;

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  struct Hash {
    std::uint64_t seed;
    std::size_t operator()(const UdpSessionKey& key) const noexcept;
    std::size_t operator()(const IpAddress& address) const noexcept;
  };
  struct Queue {
    std::uint32_t newest = kNone;
    std::uint32_t oldest = kNone;
  };
  [[nodiscard]] Queue& queue_of(const UdpSession& session) noexcept { return queues_[session.answered ? 1 : 0]; }
  void link(UdpSession& session) noexcept;
  void unlink(UdpSession& session) noexcept;
  [[nodiscard]] UdpSession* oldest_of(const IpAddress& client) noexcept;

  UdpLimits limits_;
  std::deque<UdpSession> slots_;  ///< never moves its elements
  std::vector<std::uint32_t> free_;
  std::unordered_map<UdpSessionKey, std::uint32_t, Hash> by_key_;
  std::unordered_map<IpAddress, std::vector<std::uint32_t>, Hash> by_source_;  ///< slots of each client address
  std::array<Queue, 2> queues_;
};

}  // namespace limpid
