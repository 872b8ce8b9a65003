// Cut-through: TCP flows of which nothing is left to decide are translated and forwarded by eBPF programs at tc ingress. This is the whole interface:
// load or adopt, begin a flow, settle it, end it, collect what is over; UDP sessions have one of their own, datagrams(). docs/cut-through.md has the theory. Knows no relay and reads no sockets.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cutthrough/cut_datagrams.h"
#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// Never given out twice while programs live, adopted flows included. 0: none.
struct CutThroughId {
  std::uint64_t value = 0;
  auto operator<=>(const CutThroughId&) const = default;
};

/// One direction, of a sender (the client for `up`, the target for `down`). "Our socket" without more is the one that faces the sender: the client
/// leg's for `up`, the target leg's for `down`.
struct CutThroughWay {
  SocketAddress from;  ///< its packets as they arrive on the wire (behind NAT of others: as they really are)
  SocketAddress to;
  SocketAddress new_from;  ///< as they leave
  SocketAddress new_to;
  std::uint32_t seq_delta = 0;  ///< added to seq: (other leg).write_seq - (rcv_nxt - SIOCINQ) of our socket
  std::uint8_t peer_scale = 0;  ///< of the sender's window field: tcpi_snd_wscale of our socket; 0…14
  std::uint8_t our_scale = 0;   ///< that the other leg announced to the receiver: its tcpi_rcv_wscale
  std::uint32_t clock =
      0;  ///< TCP_TIMESTAMP of the other leg (it faces the receiver), read at the flip; only with timestamps
  std::uint32_t rcv_nxt = 0;     ///< of our socket, in the same read as seq_delta
  std::uint32_t right_edge = 0;  ///< rcv_wup + rcv_wnd of our socket (TCP_REPAIR_WINDOW)
  std::uint32_t write_seq = 0;   ///< of our socket
};

/// What the access log wants to know of a flow, kept in the kernel with it.
struct CutThroughFacts {
  SocketAddress client;
  SocketAddress original_destination;
  SocketAddress target;
  std::uint64_t bytes_up =
      0;  ///< what our sockets had received at `rcv_nxt`, read or not; later ones are counted by sequence numbers,
  std::uint64_t bytes_down = 0;  ///< so bytes that race the flip and are relayed while draining are not to be added
  std::int64_t started_us = 0;   ///< wall clock, microseconds since the epoch
  std::uint8_t source = 0;       ///< as the caller means it
};

struct CutThroughFlow {
  CutThroughWay up;
  CutThroughWay down;
  bool timestamps = false;  ///< on both legs
  bool sack = false;        ///< on both legs
  CutThroughFacts facts;
};

/// Ends that raced the flip: received by one of our sockets and passed on by the other, so that the programs never saw them.
struct CutThroughFins {
  bool client = false;
  bool target = false;
};

enum class CutThroughPhase : std::uint8_t { draining, alone, lingering, resetting };

struct CutThroughState {
  CutThroughPhase phase = CutThroughPhase::draining;
  std::uint64_t bytes_up = 0;  ///< of the whole flow, facts.bytes_up included
  std::uint64_t bytes_down = 0;
  std::uint64_t packets_up = 0;  ///< since the flip
  std::uint64_t packets_down = 0;
  bool client_finished = false;  ///< its FIN has passed
  bool target_finished = false;
  bool closed = false;  ///< both FINs have passed and are acknowledged
  /// Its RST has passed: while draining, nothing more will be acknowledged, and both sockets are to be closed in repair mode.
  bool client_reset = false;
  bool target_reset = false;
  std::chrono::nanoseconds idle{0};  ///< since the last packet
};

enum class CutThroughEnd : std::uint8_t { closed, client_reset, target_reset, idle_timeout, stopped };

/// A flow that is over.
struct CutThroughRecord {
  CutThroughId id;
  CutThroughFacts facts;        ///< with the bytes of the whole flow
  SocketAddress target_local;   ///< of the target leg, as its packets have them
  SocketAddress target_remote;  ///< the target, or the upstream
  CutThroughEnd end = CutThroughEnd::closed;
  std::int64_t duration_us = 0;  ///< until its last packet
};

struct CutThroughOptions {
  std::string name = "limpid";        ///< of the instance: what is adopted and removed
  std::uint32_t filter_priority = 1;  ///< where a clsact filter is used: lower than that of the eBPF backend
  std::uint32_t mark =
      0;  ///< the bypass mark: of the resets that end() sends, and, from Linux 6.10, of look-ups for the way to targets
  bool netfilter =
      false;  ///< packets of released flows pass through the kernel's own forwarding, so through the forward hook, as their client's connection
  std::uint32_t most_flows = 262144;
  std::chrono::seconds idle_timeout{7200};
  std::chrono::seconds half_closed_timeout{7200};  ///< after one FIN
  /// A predecessor may still have the sockets of flows that are draining for so long; and it may go on, so what it has loaded is not replaced by another version.
  /// 0: there is none.
  std::chrono::seconds predecessor_stays{0};
  std::chrono::seconds linger{60};  ///< after both, as TIME_WAIT; less when half of most_flows are there
  CutDatagramOptions datagrams = {};
};

/// One for each process; every member may be called from any thread. Programs and maps stay in the kernel when the object goes, as they do when the
/// process is killed; close() takes them away.
class CutThrough {
 public:
  /// Loads the programs, or takes over those that an earlier process of that name left, with their flows, and attaches them to every interface. An error
  /// of kind `unsupported` where the kernel, the build or our rights do not suffice. Adopted flows that were draining are reset: their sockets are gone.
  [[nodiscard]] static Result<std::unique_ptr<CutThrough>> open(const CutThroughOptions& options);
  ~CutThrough();
  CutThrough(const CutThrough&) = delete;
  CutThrough& operator=(const CutThrough&) = delete;

  /// From now on packets of both directions are translated and forwarded, and the sockets get their ACKs by clones. Error codes: EEXIST (one of the
  /// tuples belongs to a living flow), ENOSPC (most_flows), EAFNOSUPPORT (legs of two families), ENETUNREACH (no way that forwards: forwarding is
  /// off, an end is on this host, or the way leads through an interface without our program), EINVAL (a scale, or an address that is none).
  [[nodiscard]] Result<CutThroughId> begin(const CutThroughFlow& flow);
  /// Of one that is draining: nothing is cloned any more. Wait a millisecond for clones under way, then close both sockets in repair mode.
  [[nodiscard]] Status settle(CutThroughId id, CutThroughFins fins = {});
  /// Of a settled one, when its sockets are closed: with CutThroughOptions::netfilter its packets may pass through the kernel from now on.
  [[nodiscard]] Status release(CutThroughId id);
  /// Resets both ends. The record comes from collect(), but that of a draining flow is the caller's; unless `leaves_record`: then it comes from the collect()
  /// of whoever has adopted the flow.
  [[nodiscard]] Status end(CutThroughId id, bool leaves_record = false);
  [[nodiscard]] Result<CutThroughState> look(CutThroughId id) const;
  /// Whether packets from `source` to `destination`, as they arrive, belong to a flow that lives. It has no socket, so the kernel gives its port to others: ask
  /// as soon as connect(2) has chosen one for a target leg (`source` is the target), and dial again from another.
  [[nodiscard]] bool taken(const SocketAddress& source, const SocketAddress& destination) const;
  /// Flows whose tuple says so: what the control side looks for. Not for the hot path.
  [[nodiscard]] std::vector<CutThroughRecord> list() const;

  /// Every second or so: hands each flow that is over to `sink` once, ends what is idle, frees what has lingered. `draining` flows are the caller's.
  [[nodiscard]] Status collect(const std::function<void(const CutThroughRecord&)>& sink);
  /// How many flows live without a socket: settled or adopted, and not handed to a sink yet.
  [[nodiscard]] std::uint64_t flows() const noexcept;

  /// UDP sessions.
  [[nodiscard]] CutDatagrams& datagrams() noexcept;

  /// Interfaces have come or gone: attaches to new ones. Returns their names.
  [[nodiscard]] Result<std::vector<std::string>> on_link_change();
  /// What the programs counted, by name, in a fixed order.
  [[nodiscard]] Result<std::vector<std::pair<std::string, std::uint64_t>>> counters() const;

  /// Ends what is left (each is handed to `sink`), detaches and removes everything.
  [[nodiscard]] Status close(const std::function<void(const CutThroughRecord&)>& sink);

 private:
  struct Kernel;
  explicit CutThrough(std::unique_ptr<Kernel> kernel);
  std::unique_ptr<Kernel> kernel_;
};

/// The instances whose programs are attached in this network namespace, whoever runs them. Nothing where we may not look.
[[nodiscard]] Result<std::vector<std::string>> find_cut_through();
/// Resets an instance's flows and takes its programs away. True if there were any.
[[nodiscard]] Result<bool> remove_cut_through(const std::string& name);

}  // namespace limpid
