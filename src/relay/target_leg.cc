// The source modes, from the most to the least faithful, and their fallbacks.
#include "relay/target_leg.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <span>

#include "limpid/transparent.h"
#include "net/tcp_socket.h"

namespace limpid {
namespace {

/// What fits into a SYN (tcp_send_syn_data: one segment less the options).
constexpr std::size_t kMostWithSynBytes = 1460;

Result<TargetLeg> dial_from(const SocketAddress& target, std::optional<SocketAddress> source, SourceMode seen,
                            const TargetLegOptions& options) {
  auto fd = connect_transparent(target, {.source = source,
                                         .mark = options.bypass_mark,
                                         .keepalive_idle = options.keepalive_idle,
                                         .fast_open = options.fast_open,
                                         .smallest_mtu = options.smallest_mtu,
                                         .interface = options.interface});
  if (!fd) return std::unexpected(std::move(fd.error()));
  return TargetLeg{.fd = std::move(*fd), .source = seen};
}

/// A SYN that waits for bytes to take along must leave now, with or without: a target may be the one to speak first. The bytes stay
/// in the client's socket until the connection is made, for the next target if it is not.
Result<std::uint16_t> send_first_bytes(int client, int target) {
  std::array<std::byte, kMostWithSynBytes> first{};
  const ssize_t there = recv(client, first.data(), first.size(), MSG_PEEK | MSG_DONTWAIT);
  const auto bytes = std::span<const std::byte>(first).first(there > 0 ? static_cast<std::size_t>(there) : 0);
  const auto sent = send_with_syn(target, bytes);
  if (!sent) return std::unexpected(sent.error());
  return static_cast<std::uint16_t>(*sent);
}

Result<TargetLeg> open_as(const Dial& dial, const SocketAddress& client, const TargetLegOptions& options,
                          Counters& counters) {
  const SocketAddress any_port{.address = client.address, .port = {}, .scope_id = client.scope_id};
  SourceMode mode = dial.source;
  // A link-local address means nothing beyond its own link, so no target elsewhere could answer it.
  if (mode != SourceMode::none && client.address.is_link_local()) {
    mode = SourceMode::none;
    counters.add(Counter::source_fallback_none);
  } else if (dial.source_family_differs) {
    counters.add(Counter::source_fallback_none);
  }
  if (const auto source = dial.leg ? dial.leg->source(dial.target.family()) : std::nullopt) {
    return dial_from(dial.target, SocketAddress{.address = *source, .port = {}}, SourceMode::none, options);
  }
  switch (mode) {
    case SourceMode::none: return dial_from(dial.target, std::nullopt, SourceMode::none, options);
    case SourceMode::address: return dial_from(dial.target, any_port, SourceMode::address, options);
    case SourceMode::address_and_port:
    case SourceMode::prefer_port: break;
  }
  auto leg = dial_from(dial.target, client, SourceMode::address_and_port, options);
  // A port below 1024 without CAP_NET_BIND_SERVICE cannot be had either.
  if (!leg && leg.error().code == EACCES && leg.error().operation == "bind") leg.error().code = EADDRNOTAVAIL;
  if (leg) {
    counters.add(Counter::source_port_kept);
    return leg;
  }
  // EADDRINUSE at bind, EADDRNOTAVAIL at connect: the port or its 4-tuple is taken, by another socket or one in
  // TIME_WAIT.
  const bool taken = leg.error().code == EADDRINUSE || leg.error().code == EADDRNOTAVAIL;
  if (mode == SourceMode::address_and_port || !taken) return leg;
  counters.add(Counter::source_port_fallback);
  return dial_from(dial.target, any_port, SourceMode::address, options);
}

}  // namespace

Result<TargetLeg> open_target_leg(const Dial& dial, const ClientSide& client, const TargetLegOptions& options,
                                  Counters& counters) {
  TargetLegOptions own = options;
  if (dial.leg) {
    own.bypass_mark |= dial.leg->mark;
    if (!dial.leg->interface.empty()) own.interface = dial.leg->interface;
  }
  auto leg = open_as(dial, client.address, own, counters);
  if (!leg) return leg;
  leg->routed_otherwise = own.bypass_mark != options.bypass_mark || !own.interface.empty();
  if (!options.fast_open) return leg;
  const auto sent = send_first_bytes(client.fd, leg->fd.get());
  if (!sent) return std::unexpected(sent.error());
  leg->sent_with_syn = *sent;
  return leg;
}

bool discard_sent(int client_fd, std::uint16_t count) noexcept {
  // tcp(7): MSG_TRUNC throws away instead of copying.
  return recv(client_fd, nullptr, count, MSG_TRUNC | MSG_DONTWAIT) == static_cast<ssize_t>(count);
}

}  // namespace limpid
