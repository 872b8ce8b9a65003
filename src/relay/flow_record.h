// What remains of a flow when it is over: a record for the access log, handed over through a ring without locks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "limpid/address.h"
#include "policy/decision.h"

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
  stopped,     ///< the drain at shutdown ran out of time
  unanswered,  ///< a UDP session that no target ever answered
  evicted,     ///< a UDP session that had to make room for another
  error,       ///< a local failure (no memory, …)
};
[[nodiscard]] std::string_view to_string(FlowEnd end) noexcept;

enum class Protocol : std::uint8_t { tcp, udp };
[[nodiscard]] std::string_view to_string(Protocol protocol) noexcept;

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
  bool cut_through = false;  ///< it left the relay while it lived
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
    record = (*slots_)[head % kCapacity];
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
