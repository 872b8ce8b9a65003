// SOCKS4 and SOCKS4a, CONNECT, as a client: bytes in, bytes out. IPv4 only, unless the destination has a name. Holds no socket.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "upstream/destination.h"

namespace limpid {

class Socks4Handshake {
 public:
  /// A destination without a name must be IPv4.
  Socks4Handshake(std::string_view user, const Destination& destination);

  [[nodiscard]] std::span<const std::byte> waiting() const noexcept { return outgoing_.waiting(); }
  void sent(std::size_t count) noexcept { outgoing_.sent(count); }
  [[nodiscard]] std::size_t take(std::span<const std::byte> bytes);
  [[nodiscard]] HandshakeState state() const noexcept { return state_; }

 private:
  Outgoing outgoing_;
  std::array<std::uint8_t, 8> answer_{};
  std::size_t taken_ = 0;
  HandshakeState state_ = HandshakeState::running;
};

}  // namespace limpid
