// What nftables does with packets that are being traced (`meta nftrace set 1`): the messages of NFNLGRP_NFTRACE as values, and the
// socket that hears them. Reads only; who sets the packets' trace bit is not its business.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// What happened in the chain (include/uapi/linux/netfilter/nf_tables.h, enum nft_trace_types).
enum class TraceKind : std::uint8_t {
  rule,      ///< all of a rule's matches were true
  fell_out,  ///< a chain that was jumped to came to its end
  policy,    ///< the base chain came to its end
};

enum class TraceVerdict : std::uint8_t { go_on, accept, drop, jump, go_to, leave, queue, stolen, other };
/// "continue", "accept", "drop", "jump", "goto", "return", "queue", "stolen", "other": nft's words.
[[nodiscard]] std::string_view to_string(TraceVerdict verdict) noexcept;

/// The packet's headers as far as a message quotes them: 40 bytes from its IP header on, 20 from its transport header on.
struct TracedPacket {
  SocketAddress source;  ///< ports are 0 where there are none
  SocketAddress destination;
  std::uint8_t protocol = 0;                 ///< 6 TCP, 17 UDP
  std::uint8_t tcp_flags = 0;                ///< TCP's byte of flags
  std::optional<std::uint32_t> after_ports;  ///< TCP's sequence number
  std::optional<std::uint32_t> payload;      ///< the first four bytes that UDP carries
  bool operator==(const TracedPacket&) const = default;
};

struct TraceEvent {
  std::uint32_t id = 0;  ///< of the packet; changes when it comes through loopback
  std::string family;    ///< of the table: "inet", "ip", "ip6", "bridge", "arp", "netdev"
  std::string table;
  std::string chain;
  TraceKind kind = TraceKind::rule;
  std::uint64_t rule_handle = 0;  ///< with kind `rule`
  TraceVerdict verdict = TraceVerdict::go_on;
  std::string target;      ///< the chain, with jump and goto
  std::uint32_t mark = 0;  ///< of the packet, after the rule
  std::uint32_t input_interface = 0;
  std::uint32_t output_interface = 0;
  /// `ct state` as nftables' bits (invalid 1, established 2, related 4, new 8, untracked 64). Empty where the kernel does not say
  /// (before 6.16), or before conntrack has seen the packet.
  std::optional<std::uint32_t> connection_state;
  std::optional<TracedPacket> packet;  ///< in the first message of each base chain
  bool operator==(const TraceEvent&) const = default;
};

/// One netlink message, its header included. Empty for anything that is not a trace message, and for a malformed one.
[[nodiscard]] std::optional<TraceEvent> parse_trace_message(std::span<const std::byte> bytes);

/// Hears what is traced in the network namespace in which it was opened.
class TraceSocket {
 public:
  /// Needs CAP_NET_ADMIN there.
  [[nodiscard]] static Result<TraceSocket> open();
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
  /// What has come, waiting for at most `patience` for the first message. Empty: nothing came.
  [[nodiscard]] Result<std::vector<TraceEvent>> take(std::chrono::milliseconds patience);
  /// How often the kernel had more to say than the socket could hold.
  [[nodiscard]] std::uint64_t losses() const noexcept { return losses_; }

 private:
  explicit TraceSocket(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  UniqueFd fd_;
  std::uint64_t losses_ = 0;
};

}  // namespace limpid
