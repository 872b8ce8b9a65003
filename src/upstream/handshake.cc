// The kinds of upstream and their handshakes.
#include "upstream/handshake.h"

namespace limpid {

Handshake::Kind Handshake::make(const Upstream& upstream, const HandshakeRequest& request) {
  Destination destination{.address = request.destination, .name = {}};
  // SOCKS4 has no place for one; where the upstream wants one, it is SOCKS4a.
  const bool wants = upstream.wants_names || (request.by_name && upstream.kind != UpstreamKind::socks4);
  if (wants && is_host_name(request.name)) destination.name = request.name;
  switch (upstream.kind) {
    case UpstreamKind::socks5:
      return Socks5Handshake(upstream.credentials, std::move(destination), Socks5Command::connect);
    case UpstreamKind::socks4: return Socks4Handshake(upstream.credentials.user, destination);
    case UpstreamKind::http: return HttpConnectHandshake(upstream.credentials, destination);
    case UpstreamKind::proxy_v1: return ProxyHeader(ProxyVersion::v1, request.client, request.destination);
    case UpstreamKind::proxy_v2: return ProxyHeader(ProxyVersion::v2, request.client, request.destination);
    case UpstreamKind::tcp:
    case UpstreamKind::direct: break;
  }
  return Nothing{};
}

Handshake::Handshake(const Upstream& upstream, const HandshakeRequest& request) : kind_(make(upstream, request)) {}

std::span<const std::byte> Handshake::waiting() const noexcept {
  return std::visit([](const auto& kind) { return kind.waiting(); }, kind_);
}

void Handshake::sent(std::size_t count) noexcept {
  std::visit([count](auto& kind) { kind.sent(count); }, kind_);
}

std::size_t Handshake::take(std::span<const std::byte> bytes) {
  return std::visit([bytes](auto& kind) { return kind.take(bytes); }, kind_);
}

HandshakeState Handshake::state() const noexcept {
  return std::visit([](const auto& kind) { return kind.state(); }, kind_);
}

bool Handshake::is_past_upstream() const noexcept {
  // Only SOCKS5 says anything before it dials: of the others, silence may be the destination's.
  const auto* socks5 = std::get_if<Socks5Handshake>(&kind_);
  return socks5 == nullptr || socks5->is_authorized();
}

SocketAddress Handshake::bound() const noexcept {
  const auto* socks5 = std::get_if<Socks5Handshake>(&kind_);
  return socks5 == nullptr ? SocketAddress{} : socks5->bound();
}

bool can_reach(const Upstream& upstream, const SocketAddress& dialled, const SocketAddress& destination,
               bool has_name) noexcept {
  if (upstream.kind == UpstreamKind::socks4 && destination.family() == Family::ipv6) {
    return upstream.wants_names && has_name;
  }
  return !upstream.source || upstream.source->family() == dialled.family();
}

}  // namespace limpid
