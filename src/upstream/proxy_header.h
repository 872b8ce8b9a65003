// The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): writes the header that tells a server who the client is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "upstream/destination.h"

namespace limpid {

enum class ProxyVersion : std::uint8_t { v1, v2 };

/// A handshake without an answer: done once its bytes have been sent.
class ProxyHeader {
 public:
  /// Of different families: version 1 says UNKNOWN, version 2 writes the IPv4 one as a mapped IPv6 address.
  ProxyHeader(ProxyVersion version, const SocketAddress& client, const SocketAddress& destination);

  [[nodiscard]] std::span<const std::byte> waiting() const noexcept { return outgoing_.waiting(); }
  void sent(std::size_t count) noexcept { outgoing_.sent(count); }
  [[nodiscard]] static std::size_t take(std::span<const std::byte> /*bytes*/) noexcept { return 0; }
  [[nodiscard]] HandshakeState state() const noexcept {
    return outgoing_.waiting().empty() ? HandshakeState::done : HandshakeState::running;
  }

 private:
  Outgoing outgoing_;
};

/// What every header of version 2 begins with.
inline constexpr std::array<std::uint8_t, 12> kProxySignature{0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                                              0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

}  // namespace limpid
