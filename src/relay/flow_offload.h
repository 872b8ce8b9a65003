// What a worker hands a flow over to when it only copies bytes any more: whoever can move packets without sockets (`limpid run --cut-through`
// glues the cutthrough room to it). Relay knows this interface and nothing behind it. Every member may be called from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "limpid/address.h"
#include "limpid/error.h"
#include "relay/flow_record.h"
#include "relay/leg_addresses.h"

namespace limpid {

/// One direction of a flow, as packets of its sender have it. `ours` is the socket of ours that faces the sender, `other` the other leg's.
struct OffloadWay {
  SocketAddress from;  ///< as they arrive
  SocketAddress to;
  SocketAddress new_from;  ///< as they are to leave
  SocketAddress new_to;
  std::uint32_t sequence_delta = 0;  ///< to be added: other.written - ours.read
  std::uint8_t peer_scale = 0;       ///< of the sender's window field
  std::uint8_t our_scale = 0;        ///< of the window field in what the other leg sends to the receiver
  std::uint32_t clock = 0;           ///< of the other leg's timestamps
  std::uint32_t received = 0;        ///< ours: next byte of the sender's
  std::uint32_t announced_end = 0;   ///< ours: end of the window that the sender was told of
  std::uint32_t written = 0;         ///< ours: next byte to the sender
};

struct OffloadedFlow {
  OffloadWay up;
  OffloadWay down;
  bool timestamps = false;
  bool sack = false;
  FlowRecord record;  ///< so far: with the bytes that have arrived, read or not; without duration and end
};

/// Of a flow since its beginning.
struct OffloadedBytes {
  std::uint64_t up = 0;
  std::uint64_t down = 0;
};

/// Whose FIN a socket of ours has received and passed on although the flow was handed over already.
struct LateFins {
  bool client = false;
  bool target = false;
  OffloadedBytes at_least = {};  ///< what the sockets have passed on: behind such a FIN nothing follows that could tell
};

/// One exchange of a UDP session, between a client and one target.
struct OffloadedSession {
  SocketAddress source;  ///< what the target sees
  bool kept = false;     ///< its socket stays, and so does its record
  bool answered = false;
  FlowRecord record;  ///< so far, without duration and end: has the other addresses
};

/// What was forwarded of one.
struct OffloadedTraffic {
  OffloadedBytes bytes;
  bool answered = false;
  std::chrono::milliseconds idle{0};
};

/// One that lives.
struct OffloadedLife {
  std::uint64_t id = 0;  ///< of a connection; UDP sessions go by client and original destination
  FlowRecord record;     ///< so far; its duration is until the last packet
  LegAddresses target_leg;
};

class FlowOffload {
 public:
  FlowOffload() = default;
  FlowOffload(const FlowOffload&) = delete;
  FlowOffload& operator=(const FlowOffload&) = delete;
  FlowOffload(FlowOffload&&) = delete;
  FlowOffload& operator=(FlowOffload&&) = delete;
  virtual ~FlowOffload() = default;

  /// Whether packets from `source` to `destination`, as they arrive, belong to a flow that was handed over and lives. The kernel does not know that: it gives
  /// the port of such a flow to the next connection.
  [[nodiscard]] virtual bool is_taken(Protocol protocol, const SocketAddress& source,
                                      const SocketAddress& destination) = 0;
  /// From now on packets pass the sockets by, which still hear the acknowledgements. The result names the flow.
  [[nodiscard]] virtual Result<std::uint64_t> begin(const OffloadedFlow& flow) = 0;
  /// The sockets have nothing to hear any more.
  [[nodiscard]] virtual Status settle(std::uint64_t id, LateFins fins) = 0;
  /// Of one that is not settled: resets both ends. Its record is the caller's, with these bytes; those of settled ones come from collect(). Empty: a successor
  /// has adopted it, and records it.
  [[nodiscard]] virtual std::optional<OffloadedBytes> end(std::uint64_t id) = 0;
  /// Names this moment, for has_passed().
  [[nodiscard]] virtual std::uint64_t this_moment() = 0;
  /// Whether every packet that was let through to a socket before that moment lies in its queue.
  [[nodiscard]] virtual bool has_passed(std::uint64_t moment) = 0;
  /// Its sockets are closed.
  virtual void release(std::uint64_t id) = 0;
  /// Whether packets pass through the kernel's own forwarding once the sockets are closed: for netfilter they are those of the client's connection.
  [[nodiscard]] virtual bool passes_netfilter() const noexcept = 0;
  /// Whether one of its ends has reset it since: then nobody acknowledges anything any more.
  [[nodiscard]] virtual bool is_reset(std::uint64_t id) = 0;

  /// From now on datagrams of both directions pass the sockets by. A session goes by its client and original destination. EEXIST: it was handed over before.
  [[nodiscard]] virtual Status begin_session(const OffloadedSession& session) = 0;
  /// Of one whose socket is kept. Empty: nothing passes it by.
  [[nodiscard]] virtual std::optional<OffloadedTraffic> session_traffic(const SocketAddress& client,
                                                                        const SocketAddress& original_destination) = 0;
  /// Takes one back whose socket is kept, and says what had passed it by.
  virtual OffloadedBytes end_session(const SocketAddress& client, const SocketAddress& original_destination) = 0;
  /// For the record of one that left for good: more has come by a socket.
  virtual void add_to_session(const SocketAddress& client, const SocketAddress& original_destination,
                              const OffloadedBytes& bytes) = 0;

  /// Ends those of whom `forbidden_by` names a rule: TCP with a reset, UDP so that its next datagram comes to the listener. Their records come from collect(), with that
  /// rule and as rejected. How many; those whose sockets are still ours are not among them.
  virtual std::size_t end_forbidden(
      const std::function<std::optional<std::uint32_t>(const FlowRecord&)>& forbidden_by) = 0;
  /// Hands over what has ended, each once.
  virtual void collect(const std::function<void(const FlowRecord&)>& sink) = 0;
  /// Resets all that are left and hands them over. Nothing can be begun afterwards.
  virtual void close(const std::function<void(const FlowRecord&)>& sink) = 0;
  /// Those without a socket of ours that live now, with their bytes so far. Not for the hot path.
  virtual void list(const std::function<void(const OffloadedLife&)>& sink) = 0;
  /// By the operator: resets both ends; the record comes by collect(). False: there is none of that name.
  virtual bool kill(std::uint64_t id) = 0;
  virtual bool kill_session(const SocketAddress& client, const SocketAddress& original_destination) = 0;
  /// Those that were there when this process began (an earlier one was killed).
  [[nodiscard]] virtual std::size_t adopted() const noexcept = 0;
  [[nodiscard]] virtual std::size_t adopted_sessions() const noexcept = 0;
};

}  // namespace limpid
