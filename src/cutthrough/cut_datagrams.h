// Cut-through of UDP sessions: an exchange between one client and one target that is merely copied is translated and forwarded by the programs. Sessions
// have no end of their own, so whoever keeps a socket for one asks how long it has been silent; those that nobody keeps are collected.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"

struct limpid_cut_tuple;

namespace limpid {

struct CutMaps;

/// The two legs: client to original destination, and source to target.
struct CutLegs {
  SocketAddress client;
  SocketAddress original_destination;
  SocketAddress source;  ///< what the target sees
  SocketAddress target;
};

struct CutThroughSession {
  CutLegs legs;
  bool kept = false;  ///< the caller keeps its socket, asks look(), and calls end(); otherwise collect() has it
  std::uint64_t bytes_up = 0;  ///< so far, by sockets
  std::uint64_t bytes_down = 0;
  std::int64_t started_us = 0;  ///< wall clock, microseconds since the epoch
  std::uint8_t source = 0;      ///< as the caller means it
  bool answered = false;        ///< by the target, so far
};

/// What has been forwarded, and how long ago.
struct CutThroughTraffic {
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::uint64_t packets_up = 0;
  std::uint64_t packets_down = 0;
  bool answered = false;  ///< also before
  std::chrono::nanoseconds idle{0};
};

/// Of a session that nobody kept, when it is over: with the bytes of all of it.
struct CutThroughSessionRecord {
  CutThroughSession session;     ///< `answered`: ever
  bool stopped = false;          ///< false: it has been silent
  bool killed = false;           ///< by the operator
  std::int64_t duration_us = 0;  ///< until its last datagram
};

struct CutDatagramOptions {
  std::uint32_t most_sessions = 262144;
  std::uint64_t self =
      0;  ///< as a predecessor was known to the maps, whose sockets are ours now; 0: nobody's successor
  std::chrono::seconds timeout{300};
  std::chrono::seconds unanswered_timeout{30};
  std::chrono::seconds dns_timeout{10};  ///< to port 53
};

/// A session goes by its client and original destination. Part of CutThrough; every member may be called from any thread.
class CutDatagrams {
 public:
  using Sink = std::function<void(const CutThroughSessionRecord&)>;
  using CheckWays = std::function<Status(const CutLegs&)>;

  /// `maps` outlives it. Sessions that are there already belong to nobody from now on.
  CutDatagrams(const CutMaps& maps, const CutDatagramOptions& options, CheckWays check);

  /// From now on datagrams of both directions are translated and forwarded. Error codes: EEXIST (it is already, or another session has one of its tuples),
  /// ENOSPC, EAFNOSUPPORT, ENETUNREACH and EINVAL as CutThrough::begin() has them.
  [[nodiscard]] Status begin(const CutThroughSession& session);
  /// Empty: there is none.
  [[nodiscard]] std::optional<CutThroughTraffic> look(const SocketAddress& client,
                                                      const SocketAddress& original_destination) const;
  /// Of one that is not kept: bytes that came by a socket nevertheless.
  void add(const SocketAddress& client, const SocketAddress& original_destination, std::uint64_t bytes_up,
           std::uint64_t bytes_down);
  /// Of one that is kept: its datagrams come to the socket again.
  std::optional<CutThroughTraffic> end(const SocketAddress& client, const SocketAddress& original_destination);
  /// Those that nobody keeps. Not for the hot path.
  [[nodiscard]] std::vector<CutThroughSessionRecord> list() const;
  /// Of one that nobody keeps: the next collect() hands it over, and the client's next datagram comes to the socket. False: there is none.
  bool expire(const SocketAddress& client, const SocketAddress& original_destination);
  /// Whether datagrams from `source` to `destination`, as they arrive, are forwarded.
  [[nodiscard]] bool taken(const SocketAddress& source, const SocketAddress& destination) const;

  /// Every second or so: ends those that nobody keeps and that have been silent.
  void collect(const Sink& sink);
  /// Ends those that nobody keeps and of whom `wanted` says so; their next datagrams come to the listener again.
  void end_if(const std::function<bool(const CutThroughSessionRecord&)>& wanted, const Sink& sink);
  /// Ends all of them; those that somebody keeps are handed to nobody.
  void close(const Sink& sink);
  /// How many an earlier process has left.
  [[nodiscard]] std::size_t adopted() const noexcept { return adopted_; }
  /// As the maps know this process. Never 0.
  [[nodiscard]] std::uint64_t self() const noexcept { return self_; }

 private:
  struct Found;
  [[nodiscard]] std::chrono::seconds patience(const limpid_cut_tuple& key, const CutThroughTraffic& traffic) const;
  /// Empty: it is gone, or another one of its addresses has begun since it was found.
  [[nodiscard]] std::optional<CutThroughTraffic> remove(const Found& found);

  const CutMaps& maps_;
  CutDatagramOptions options_;
  CheckWays check_;
  std::uint64_t self_ = 0;          ///< this process, as the maps know it
  std::uint64_t next_scan_ns_ = 0;  ///< collect() only
  std::size_t adopted_ = 0;
  std::mutex writing_;  ///< of sessions: each has three entries
  std::mutex mutex_;
  std::vector<CutThroughSessionRecord> expired_;  ///< under mutex_: for the next collect()
};

}  // namespace limpid
