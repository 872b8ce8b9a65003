// What remains of a flow when it is over: a record for the access log, handed over through a ring without locks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "limpid/address.h"
#include "policy/client_facts.h"
#include "policy/decision.h"
#include "policy/flow_facts.h"

namespace limpid {

/// How a flow ended.
enum class FlowEnd : std::uint8_t {
  closed,  ///< both sides had finished
  client_reset,
  target_reset,
  connect_refused,
  connect_timeout,
  connect_unreachable,
  connect_failed,
  source_unavailable,
  idle_timeout,
  refused_direct,
  refused_self,
  refused_forbidden_target,
  refused_limit,
  refused_proxy_header,  ///< somebody who is to introduce clients sent no PROXY header, or a wrong one
  upstream_refused,      ///< an upstream's rules forbid the destination, or it gives no reason
  upstream_failed,       ///< no connection to an upstream, or no handshake
  upstream_timeout,      ///< an upstream did not answer in time
  upstream_down,         ///< all upstreams of the group are down
  name_unresolved,       ///< it was to go where its name leads, and that has no address
  stopped,               ///< the drain at shutdown ran out of time
  unanswered,            ///< a UDP session that no target ever answered
  evicted,               ///< a UDP session that had to make room for another
  killed,                ///< by the operator
  rejected,              ///< by a rule
  dropped,               ///< by a rule
  error,                 ///< a local failure (no memory, …)
};
[[nodiscard]] std::string_view to_string(FlowEnd end) noexcept;

enum class Protocol : std::uint8_t { tcp, udp };
[[nodiscard]] std::string_view to_string(Protocol protocol) noexcept;

/// Where the name of a flow comes from.
enum class NameSource : std::uint8_t {
  first_bytes,  ///< the client has said it in this flow
  dns_hint      ///< its address was learnt by this name out of a DNS answer to the client
};
/// "first-bytes", "dns-hint".
[[nodiscard]] std::string_view to_string(NameSource source) noexcept;

/// What had to be learnt of a flow before rules could decide.
struct Learnt {
  std::string name;    ///< empty: none, or nobody has looked
  ClientFacts client;  ///< those that were asked for
  NameSource name_source = NameSource::first_bytes;
};

/// What rules made of a flow.
struct Ruling {
  std::shared_ptr<const Learnt> learnt{};  ///< nullptr: nothing
  std::uint32_t rule = 0;                  ///< which one decided, from 1; 0: none
  AppProtocol protocol = AppProtocol::unknown;
  bool asked = false;    ///< there are rules
  bool sniffed = false;  ///< a decision depended on the first bytes
  bool ech = false;      ///< in which there was encrypted_client_hello
  [[nodiscard]] std::string_view name() const noexcept { return learnt ? learnt->name : std::string_view(); }
  [[nodiscard]] bool has_hint() const noexcept {
    return learnt && !learnt->name.empty() && learnt->name_source == NameSource::dns_hint;
  }
};

struct FlowRecord {
  SocketAddress client;
  SocketAddress original_destination;
  SocketAddress target;
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::int64_t started_us = 0;  ///< wall clock, microseconds since the epoch
  std::int64_t duration_us = 0;
  SourceMode source = SourceMode::none;  ///< what the target really saw
  Protocol protocol = Protocol::tcp;
  FlowEnd end = FlowEnd::closed;
  bool cut_through = false;        ///< it left the relay while it lived
  std::string_view upstream = {};  ///< its name, which lives as long as the relay; empty: none
  Ruling ruling{};
};

/// A bounded queue from one worker to one reader. Full means dropped: a slow reader must never hold up the relay.
class RecordRing {
 public:
  RecordRing() : slots_(std::make_unique<std::array<FlowRecord, kCapacity>>()) {}

  /// By the worker. False when full.
  [[nodiscard]] bool push(const FlowRecord& record) noexcept {
    const auto tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == kCapacity) return false;
    (*slots_)[tail % kCapacity] = record;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  /// By the reader. False when empty.
  [[nodiscard]] bool pop(FlowRecord& record) noexcept {
    const auto head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return false;
    record =
        std::move((*slots_)[head % kCapacity]);  // a name is freed by its last reader, not when the slot is used again
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

 private:
  /// At 10,000 connections a second, 0.4 s of records; about half a megabyte a worker.
  static constexpr std::size_t kCapacity = 4096;
  std::unique_ptr<std::array<FlowRecord, kCapacity>> slots_;
  alignas(64) std::atomic<std::size_t> head_{0};
  alignas(64) std::atomic<std::size_t> tail_{0};
};

}  // namespace limpid
