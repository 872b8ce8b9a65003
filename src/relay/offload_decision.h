// Whether a flow may leave the relay for good (cut-through), or why it stays. Pure: facts in, a reason out. The reasons are counted, and their
// names stand in the counters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "net/tcp_state.h"

namespace limpid {

enum class StayReason : std::uint8_t {
  // For good, because of what the flow is.
  local_end,           ///< client or target is a program of this host: its packets do not come through an interface
  families_differ,     ///< one leg is IPv4, the other IPv6
  link_local,          ///< an address that means nothing beyond its link
  half_closed,         ///< one side had finished before
  urgent,              ///< TCP urgent data was seen: its pointer is not translated
  translated,          ///< NAT by others: the wire has other addresses than our socket
  untold_translation,  ///< there is connection tracking, and it does not answer
  timestamps_differ,   ///< one leg has TCP timestamps, the other has none
  microsecond_clock,   ///< their clock ticks in microseconds
  sack_differs,        ///< one leg has SACK, the other has none
  ecn_differs,         ///< one leg has ECN, the other has none
  segment_size,        ///< one end would send segments larger than the other may be sent
  routed_otherwise,    ///< its target leg has a mark or an interface of its own, which packets past us would not have
  dns_answers,         ///< DNS, whose answers are read on their way (dns-hint)
  many_receivers,      ///< UDP: the target is a multicast or broadcast address
  other_target,  ///< netfilter is to see the flow, and the client has dialled another address or port than the target's
  no_way,        ///< forwarding is off, or a way leads through an interface without our programs
  refused,       ///< for another reason of the kernel's, such as a full table
  // For the moment: tried again a few times.
  encrypted,     ///< one leg is TLS of ours
  bytes_held,    ///< bytes in our buffers that a socket does not take
  bytes_unsent,  ///< or in a socket, which has not sent them yet
  out_of_order,  ///< bytes that came behind a gap, of which only our socket knows
  window_up,     ///< the client has been told of more room than the target has
  window_down,   ///< the target has been told of more room than the client has
  unreadable,    ///< the sockets did not tell: the connection is ending, or too busy; the last one (kStayReasonCount)
};
inline constexpr std::size_t kStayReasonCount = static_cast<std::size_t>(StayReason::unreadable) + 1;

/// As counters name it: "stayed_local_end", …
[[nodiscard]] std::string_view to_string(StayReason reason) noexcept;
/// For an errno of who was to take it over.
[[nodiscard]] StayReason stay_reason(int code) noexcept;
[[nodiscard]] bool is_momentary(StayReason reason) noexcept;

/// What the handshakes agreed on must be the same on both legs, but for what can be translated.
[[nodiscard]] std::optional<StayReason> compare_handshakes(const TcpTraits& client, const TcpTraits& target) noexcept;

/// Nothing may be waiting to be sent: a reading of the sequence numbers could make the kernel take it for sent.
[[nodiscard]] std::optional<StayReason> compare_queues(const TcpQueues& client, const TcpQueues& target) noexcept;

struct LegFacts {
  TcpTraits traits;
  TcpPosition position;
};

/// Whether each end can take what the other may send before it has heard from it.
[[nodiscard]] std::optional<StayReason> compare_windows(const LegFacts& client, const LegFacts& target) noexcept;

/// What has to be added to the sequence numbers of what arrives at `from`, for `to` to have sent it: however much was relayed, and will be.
[[nodiscard]] constexpr std::uint32_t sequence_delta(const TcpPosition& from, const TcpPosition& to) noexcept {
  return to.written - from.read;
}

}  // namespace limpid
