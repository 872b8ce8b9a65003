// The comparisons, from what is fixed with the handshake to what changes with every packet.
#include "relay/offload_decision.h"

#include <algorithm>
#include <array>
#include <cerrno>

namespace limpid {
namespace {

constexpr std::array<std::string_view, kStayReasonCount> kNames{"stayed_local_end",
                                                                "stayed_families_differ",
                                                                "stayed_link_local",
                                                                "stayed_half_closed",
                                                                "stayed_urgent",
                                                                "stayed_translated",
                                                                "stayed_untold_translation",
                                                                "stayed_timestamps_differ",
                                                                "stayed_microsecond_clock",
                                                                "stayed_sack_differs",
                                                                "stayed_ecn_differs",
                                                                "stayed_segment_size",
                                                                "stayed_routed_otherwise",
                                                                "stayed_dns_answers",
                                                                "stayed_many_receivers",
                                                                "stayed_other_target",
                                                                "stayed_no_way",
                                                                "stayed_refused",
                                                                "stayed_encrypted",
                                                                "stayed_bytes_held",
                                                                "stayed_bytes_unsent",
                                                                "stayed_out_of_order",
                                                                "stayed_window_up",
                                                                "stayed_window_down",
                                                                "stayed_unreadable"};

/// Segments that a sender may have under way without any acknowledgement (RFC 6928).
constexpr std::uint32_t kInitialSegments = 10;

/// How far the peer may get before it hears from the other end: to the end of the window that it was told of, or of its congestion window, which
/// has grown by no more than what we have received (RFC 5681, slow start).
std::uint32_t reach(const LegFacts& leg) noexcept {
  const std::uint64_t congestion = std::uint64_t{kInitialSegments} * leg.traits.advertised + leg.traits.received;
  const std::uint32_t room = leg.position.announced_end - leg.position.received;
  return leg.position.received + static_cast<std::uint32_t>(std::min<std::uint64_t>(room, congestion));
}

bool fits(const LegFacts& from, const LegFacts& to) noexcept {
  const std::uint32_t end = reach(from) + sequence_delta(from.position, to.position);
  return !sequence_before(to.position.allowed_end, end);
}

}  // namespace

std::string_view to_string(StayReason reason) noexcept {
  return kNames.at(static_cast<std::size_t>(reason));
}

StayReason stay_reason(int code) noexcept {
  switch (code) {
    case ENETUNREACH: return StayReason::no_way;
    case EAFNOSUPPORT: return StayReason::families_differ;
    default: return StayReason::refused;
  }
}

bool is_momentary(StayReason reason) noexcept {
  return reason >= StayReason::bytes_held;
}

std::optional<StayReason> compare_handshakes(const TcpTraits& client, const TcpTraits& target) noexcept {
  if (!client.established || !target.established) return StayReason::half_closed;
  if (client.timestamps != target.timestamps) return StayReason::timestamps_differ;
  if (client.microseconds || target.microseconds) return StayReason::microsecond_clock;
  if (client.sack != target.sack) return StayReason::sack_differs;
  if (client.ecn != target.ecn) return StayReason::ecn_differs;
  if (client.advertised > target.segment || target.advertised > client.segment) return StayReason::segment_size;
  return std::nullopt;
}

std::optional<StayReason> compare_queues(const TcpQueues& client, const TcpQueues& target) noexcept {
  if (client.unsent > 0 || target.unsent > 0) return StayReason::bytes_unsent;
  for (const TcpQueues* leg : {&client, &target}) {
    if (leg->receive_memory > 0 && leg->unread == 0) return StayReason::out_of_order;
  }
  return std::nullopt;
}

std::optional<StayReason> compare_windows(const LegFacts& client, const LegFacts& target) noexcept {
  if (!fits(client, target)) return StayReason::window_up;
  if (!fits(target, client)) return StayReason::window_down;
  return std::nullopt;
}

}  // namespace limpid
